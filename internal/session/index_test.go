package session

import (
	"fmt"
	"hash/maphash"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"pushgate/api"
)

func TestSlotIsOneCacheLine(t *testing.T) {
	if size := unsafe.Sizeof(slot{}); size != 64 {
		t.Fatalf("a slot has %d bytes, want 64", size)
	}
}

// indexModel is the index as anyone would write it first.
type indexModel struct {
	x      index
	n      names
	held   map[uint32]map[string]membership // session → name → place
	walked map[string]*modelWalk
}

type modelWalk struct {
	record    uint32
	done, end *int
	must      map[uint32]bool // took part from the beginning
	served    map[uint32]int
}

func newIndexModel() *indexModel {
	m := &indexModel{held: map[uint32]map[string]membership{}, walked: map[string]*modelWalk{}}
	seed := maphash.MakeSeed()
	m.x.init(&m.n, func(b []byte) uint64 { return maphash.Bytes(seed, b) })
	return m
}

func (m *indexModel) nameOf(record uint32) string {
	return string(m.n.get(m.x.subjects.at(record).name))
}

func (m *indexModel) remove(id uint32, name string) {
	place := m.held[id][name]
	delete(m.held[id], name)
	if w := m.walked[name]; w != nil {
		delete(w.must, id)
	}
	m.x.remove(place, func(other uint32, moved membership) {
		m.held[other][m.nameOf(moved.subject)] = moved
	})
}

// takersOf is the plain reference: every session whose pattern matches.
func (m *indexModel) takersOf(subject string) []uint32 {
	var ids []uint32
	for id, names := range m.held {
		for name := range names {
			if api.Match(name, subject) {
				ids = append(ids, id)
				break
			}
		}
	}
	slices.Sort(ids)
	return ids
}

var (
	genToken   = rapid.SampledFrom([]string{"a", "b", "user", "alice", "x9"})
	genSubject = rapid.Custom(func(t *rapid.T) string {
		return join(rapid.SliceOfN(genToken, 1, 4).Draw(t, "tokens"))
	})
	genPattern = rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.OneOf(genToken, rapid.Just("*")), 1, 4).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "tail") {
			tokens = append(tokens, ">")
		}
		return join(tokens)
	})
)

func join(tokens []string) string {
	s := tokens[0]
	for _, t := range tokens[1:] {
		s += "." + t
	}
	return s
}

// TestIndexAgainstReference adds and removes at random and compares what each
// subject finds with a plain scan, while broadcasts walk the lists: each
// session that stays must be served once, and none twice.
func TestIndexAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newIndexModel()
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				id := rapid.Uint32Range(1, 40).Draw(t, "id")
				name := rapid.OneOf(genSubject, genPattern).Draw(t, "name")
				if m.held[id] == nil {
					m.held[id] = map[string]membership{}
				}
				if _, ok := m.held[id][name]; ok {
					return
				}
				m.held[id][name] = m.x.add(name, id)
			},
			"remove": func(t *rapid.T) {
				id := rapid.Uint32Range(1, 40).Draw(t, "id")
				names := make([]string, 0, len(m.held[id]))
				for name := range m.held[id] {
					names = append(names, name)
				}
				if len(names) == 0 {
					return
				}
				slices.Sort(names)
				m.remove(id, rapid.SampledFrom(names).Draw(t, "name"))
			},
			"walk": func(t *rapid.T) {
				name := genSubject.Draw(t, "name")
				record := m.x.find([]byte(name))
				if record == 0 || m.walked[name] != nil {
					return
				}
				w := &modelWalk{record: record, must: map[uint32]bool{}, served: map[uint32]int{}}
				w.done, w.end = m.x.walk(record)
				for id, names := range m.held {
					if _, ok := names[name]; ok {
						w.must[id] = true
					}
				}
				m.walked[name] = w
			},
			"step": func(t *rapid.T) {
				for name, w := range m.walked {
					if *w.done < *w.end {
						var one [1]uint32
						id := m.x.takers(w.record, &one)[*w.done]
						*w.done++
						w.served[id]++
						continue
					}
					m.x.leave(w.record, w.done, w.end)
					delete(m.walked, name)
					for id := range w.must {
						if w.served[id] != 1 {
							t.Fatalf("session %d was served %d times", id, w.served[id])
						}
					}
				}
			},
			"": func(t *rapid.T) {
				subject := genSubject.Draw(t, "subject")
				var got []uint32
				var one [1]uint32
				for _, record := range m.x.match(nil, subject) {
					got = append(got, m.x.takers(record, &one)...)
				}
				slices.Sort(got)
				if got, want := slices.Compact(got), m.takersOf(subject); !slices.Equal(got, want) {
					t.Fatalf("%s finds %v, want %v", subject, got, want)
				}
			},
		})
	})
}

func TestTableAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stored := []string{""}
		// A weak hash makes clusters, which is where the mistakes are.
		hash := func(b []byte) uint64 {
			var h uint64
			for _, c := range b {
				h = h*31 + uint64(c)
			}
			return h<<28 | h&3
		}
		tb := table{hash: hash, name: func(i uint32) []byte { return []byte(stored[i]) }}
		want := map[string]uint32{}
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				name := rapid.StringMatching(`[a-d]{1,3}`).Draw(t, "name")
				if _, ok := want[name]; ok {
					return
				}
				stored = append(stored, name)
				want[name] = uint32(len(stored) - 1)
				tb.insert(hash([]byte(name)), want[name])
			},
			"remove": func(t *rapid.T) {
				name := rapid.StringMatching(`[a-d]{1,3}`).Draw(t, "name")
				if i, ok := want[name]; ok {
					tb.remove(hash([]byte(name)), i)
					delete(want, name)
				}
			},
			"": func(t *rapid.T) {
				for name, i := range want {
					if got := tb.find(hash([]byte(name)), []byte(name)); got != i {
						t.Fatalf("%q finds %d, want %d", name, got, i)
					}
				}
				if got := tb.find(hash([]byte("zz")), []byte("zz")); got != 0 {
					t.Fatalf("an unknown name finds %d", got)
				}
			},
		})
	})
}

func TestNamesAreReused(t *testing.T) {
	var n names
	refs := map[nameRef]string{}
	for round := range 20 {
		for i := range 5000 {
			s := fmt.Sprintf("user.%0*d", 1+i%40, i)
			refs[n.put(s)] = s
		}
		for ref, s := range refs {
			if got := string(n.get(ref)); got != s {
				t.Fatalf("%q became %q", s, got)
			}
			n.drop(ref)
			delete(refs, ref)
		}
		if round == 0 {
			defer func(chunks int) {
				if len(n.chunks) != chunks {
					t.Errorf("%d chunks after the first round, %d after the last", chunks, len(n.chunks))
				}
			}(len(n.chunks))
		}
	}
}
