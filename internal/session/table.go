package session

// table finds indexes by name: open addressing on uint32, without pointers in
// what grows. It is cut into shards that grow one at a time, so that no single
// insertion has to move a million entries.
//
// An entry is an index below 1<<26 and six bits of its name's hash, which
// spare most looks at names that are not meant. A hash only finds: the whole
// name is compared, always.
type table struct {
	shards [tableShards]shard
	hash   func([]byte) uint64
	name   func(index uint32) []byte
}

const (
	tableShards = 256
	entryBits   = 26
	entryMask   = 1<<entryBits - 1
	// maxEntries is how many sessions, and how many subjects, a loop can hold.
	maxEntries = entryMask
)

type shard struct {
	entries []uint32 // 0 is empty
	used    int
}

func (t *table) shard(h uint64) *shard { return &t.shards[h>>56] }

func tagOf(h uint64) uint32 { return uint32(h>>32) << entryBits }

// home is where an entry would like to lie.
func (s *shard) home(h uint64) int { return int(uint64(uint32(h)) * uint64(len(s.entries)) >> 32) }

// find returns the index stored for name, 0 for none.
func (t *table) find(h uint64, name []byte) uint32 {
	s := t.shard(h)
	if s.used == 0 {
		return 0
	}
	tag := tagOf(h)
	for i := s.home(h); ; {
		e := s.entries[i]
		if e == 0 {
			return 0
		}
		if e&^entryMask == tag && string(t.name(e&entryMask)) == string(name) {
			return e & entryMask
		}
		if i++; i == len(s.entries) {
			i = 0
		}
	}
}

// insert adds index under a name that is not in the table.
func (t *table) insert(h uint64, index uint32) {
	s := t.shard(h)
	if (s.used+1)*5 > len(s.entries)*4 {
		t.grow(s)
	}
	s.put(h, tagOf(h)|index)
	s.used++
}

func (s *shard) put(h uint64, entry uint32) {
	i := s.home(h)
	for s.entries[i] != 0 {
		if i++; i == len(s.entries) {
			i = 0
		}
	}
	s.entries[i] = entry
}

func (t *table) grow(s *shard) {
	old := s.entries
	s.entries = make([]uint32, max(8, len(old)+len(old)/4))
	for _, e := range old {
		if e != 0 {
			s.put(t.hash(t.name(e&entryMask)), e)
		}
	}
}

// replace makes the entry of name, which is in the table, point to index.
func (t *table) replace(h uint64, old, index uint32) {
	s := t.shard(h)
	s.entries[s.place(h, old)] = tagOf(h) | index
}

func (s *shard) place(h uint64, index uint32) int {
	want := tagOf(h) | index
	i := s.home(h)
	for s.entries[i] != want {
		if i++; i == len(s.entries) {
			i = 0
		}
	}
	return i
}

// remove takes index out; its name must still be readable.
func (t *table) remove(h uint64, index uint32) {
	s := t.shard(h)
	hole := s.place(h, index)
	n := len(s.entries)
	// What lies behind the hole and would rather lie in it or before it moves
	// up, so that no search ends too early.
	for i := hole; ; {
		if i++; i == n {
			i = 0
		}
		e := s.entries[i]
		if e == 0 {
			break
		}
		want := s.home(t.hash(t.name(e & entryMask)))
		if (i-want+n)%n >= (i-hole+n)%n {
			s.entries[hole] = e
			hole = i
		}
	}
	s.entries[hole] = 0
	s.used--
}
