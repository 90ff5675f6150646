package session

import (
	"bytes"

	"pushgate/api"
)

// index says which of a loop's sessions want a subject. Literal subjects and
// patterns share one table, a pattern under its own text; an event looks up
// its subject, and for each shape of pattern that some session holds, its
// subject with that shape's wildcards put in.
type index struct {
	names    *names
	table    table
	subjects pool[subject]
	free     uint32 // first free record, by subject.ref
	lists    []list // takers of subjects with more than one
	freeList []uint32
	shapes   api.Shapes
	scratch  []byte // a subject with wildcards put in
	count    int
	idBytes  int64 // that lists take
}

// subject is one wanted subject or pattern. Most have one taker, a user's own
// session: that takes eight bytes.
type subject struct {
	name nameRef
	ref  uint32 // the only taker; or, with manyTakers, the index in lists
}

// manyTakers says that a subject has a list. It keeps it while it lives, so
// that a second session that comes and goes does not make and drop one.
const manyTakers = 1 << 31

// list holds a subject's takers, densely. Broadcasts under way walk it in
// slices, each between two marks.
type list struct {
	ids   []uint32
	marks []*int
}

func (x *index) init(n *names, hash func([]byte) uint64) {
	x.names = n
	x.table.hash = hash
	x.table.name = func(i uint32) []byte { return n.get(x.subjects.at(i).name) }
}

// find returns the record of a subject or pattern, 0 for none.
func (x *index) find(name []byte) uint32 { return x.table.find(x.table.hash(name), name) }

// add makes session id a taker and returns its place.
func (x *index) add(name string, id uint32) membership {
	key := []byte(name)
	h := x.table.hash(key)
	i := x.table.find(h, key)
	if i == 0 {
		i = x.free
		if i != 0 {
			x.free = x.subjects.at(i).ref
		} else {
			i = x.subjects.grow()
		}
		*x.subjects.at(i) = subject{name: x.names.put(name), ref: id}
		x.table.insert(h, i)
		x.count++
		if api.HasWildcard(name) {
			x.shapes.Count(name, 1)
		}
		return membership{subject: i}
	}
	l := x.listOf(i)
	x.append(l, id)
	return membership{subject: i, pos: uint32(len(l.ids) - 1)}
}

// listOf returns a subject's list and makes it where there is none.
func (x *index) listOf(i uint32) *list {
	s := x.subjects.at(i)
	if s.ref&manyTakers == 0 {
		only := s.ref
		s.ref = x.takeList() | manyTakers
		l := &x.lists[s.ref&^manyTakers]
		x.append(l, only)
	}
	return &x.lists[s.ref&^manyTakers]
}

// append adds a taker to a list.
func (x *index) append(l *list, id uint32) {
	before := cap(l.ids)
	l.ids = append(l.ids, id)
	x.idBytes += 4 * int64(cap(l.ids)-before)
}

func (x *index) takeList() uint32 {
	if n := len(x.freeList); n > 0 {
		i := x.freeList[n-1]
		x.freeList = x.freeList[:n-1]
		return i
	}
	x.lists = append(x.lists, list{})
	return uint32(len(x.lists) - 1)
}

// remove ends a membership. moved is called for each other taker whose place
// changed.
func (x *index) remove(m membership, moved func(id uint32, m membership)) {
	s := x.subjects.at(m.subject)
	if s.ref&manyTakers == 0 {
		x.dropSubject(m.subject)
		return
	}
	l := &x.lists[s.ref&^manyTakers]
	l.remove(int(m.pos), func(id uint32, pos int) {
		moved(id, membership{subject: m.subject, pos: uint32(pos)})
	})
	x.dropEmpty(m.subject, l)
}

// dropEmpty drops a subject that nobody takes. Where a broadcast still stands
// in its list it stays until that leaves.
func (x *index) dropEmpty(i uint32, l *list) {
	if len(l.ids) > 0 || len(l.marks) > 0 {
		return
	}
	if cap(l.ids) > 64 {
		x.idBytes -= 4 * int64(cap(l.ids))
		l.ids = nil
	}
	x.freeList = append(x.freeList, x.subjects.at(i).ref&^manyTakers)
	x.dropSubject(i)
}

func (x *index) dropSubject(i uint32) {
	s := x.subjects.at(i)
	name := x.names.get(s.name)
	if bytes.ContainsAny(name, "*>") {
		x.shapes.Count(string(name), -1)
	}
	x.table.remove(x.table.hash(name), i)
	x.names.drop(s.name)
	*s = subject{ref: x.free}
	x.free = i
	x.count--
}

// walk pins a subject's list for a broadcast and returns its two marks: what
// lies before the first is done, from the second on joined later. leave ends it.
func (x *index) walk(i uint32) (done, end *int) {
	l := x.listOf(i)
	done, end = new(int), new(int)
	*end = len(l.ids)
	l.marks = append(l.marks, done, end)
	return done, end
}

func (x *index) leave(i uint32, done, end *int) {
	l := x.listOf(i)
	kept := l.marks[:0]
	for _, m := range l.marks {
		if m != done && m != end {
			kept = append(kept, m)
		}
	}
	l.marks = kept
	x.dropEmpty(i, l)
}

// takers returns a subject's sessions. one is room for a single one.
func (x *index) takers(i uint32, one *[1]uint32) []uint32 {
	ref := x.subjects.at(i).ref
	if ref&manyTakers != 0 {
		return x.lists[ref&^manyTakers].ids
	}
	one[0] = ref
	return one[:]
}

// size is the number of a subject's takers.
func (x *index) size(i uint32) int {
	if ref := x.subjects.at(i).ref; ref&manyTakers != 0 {
		return len(x.lists[ref&^manyTakers].ids)
	}
	return 1
}

// remove takes place pos out of the list. The hole moves up from mark to mark,
// so that nobody crosses one: a session that a broadcast has served is not
// served again, and one that it has not is not passed over.
func (l *list) remove(pos int, moved func(id uint32, pos int)) {
	hole := pos
	for hole < len(l.ids)-1 {
		next := len(l.ids)
		for _, m := range l.marks {
			if *m > hole && *m < next {
				next = *m
			}
		}
		for _, m := range l.marks {
			if *m == next {
				*m--
			}
		}
		if last := next - 1; last != hole {
			l.ids[hole] = l.ids[last]
			moved(l.ids[hole], hole)
			hole = last
		}
		if next == len(l.ids) {
			break
		}
	}
	for _, m := range l.marks {
		if *m == len(l.ids) {
			*m--
		}
	}
	l.ids = l.ids[:len(l.ids)-1]
}
