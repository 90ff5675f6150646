package session

import "pushgate/internal/poll"

// slot is all that an idle session costs, besides its names and its places in
// the subject lists: 64 bytes, one cache line, and no pointer, so that the
// collector never looks at a million of them.
type slot struct {
	fd      poll.FD
	gen     uint32  // counts the slot's owners; part of every tag and session id
	expires uint32  // token's exp, Unix seconds
	issued  uint32  // token's iat, Unix seconds, 0 when absent
	user    nameRef // shared by all sessions of the user
	addr    uint32  // seeded hash of the client's address
	active  uint32  // index in loop.active while bytes are under way, else 0
	extra   uint32  // index in loop.extras for what few sessions have, else 0
	next    uint32  // the user's next session; of a free slot the next free one
	prev    uint32  // the user's previous session, 0 for the first

	subs [2]membership // the first subscriptions; the others are in extra

	heard     uint16 // tick of the last sign of life
	messages  uint16 // frames taken in that tick
	state     state
	transport transport
	_         uint8 // room for what happens to a slow consumer
	nsubs     uint8 // how many of subs and of the extra ones are in use
}

// membership is one session's place in one subject's list.
type membership struct {
	subject uint32 // index in index.subjects, 0 for none
	pos     uint32 // place in the subject's list
}

// extra is what only few sessions have.
type extra struct {
	subs []membership // beyond the two in the slot
}

type state uint8

const (
	stateFree state = iota
	stateOpen
	stateClosing  // our close frame is on its way, or its answer is awaited
	stateAnswered // the client's close frame has come: the end, once ours is written
)

// transport is how a session's frames travel.
type transport uint8

const (
	transportWebSocket transport = iota
	transports
)

var transportLabels = [transports]string{"websocket"}

const (
	chunkBits = 12
	chunkSize = 1 << chunkBits
)

// slabChunk keeps the deadlines apart from the slots: the sweep reads them
// all once a second, two bytes each.
type slabChunk struct {
	slots [chunkSize]slot
	due   [chunkSize]uint16 // tick at which the session is looked at next
}

// slab holds a loop's sessions in chunks, so that growing never copies.
// Index 0 is no session.
type slab struct {
	chunks []*slabChunk
	top    uint32 // indexes below it have been used
	free   uint32 // first free slot of those, 0 for none
	used   int    // sessions open or closing
}

func (s *slab) at(id uint32) *slot { return &s.chunks[id>>chunkBits].slots[id&(chunkSize-1)] }

func (s *slab) due(id uint32) *uint16 { return &s.chunks[id>>chunkBits].due[id&(chunkSize-1)] }

// take returns a free slot, zero but for its generation. Memory of a chunk is
// touched only as far as it is used.
func (s *slab) take() uint32 {
	id := s.free
	if id != 0 {
		s.free = s.at(id).next
	} else {
		id = max(s.top, 1)
		s.top = id + 1
		if id>>chunkBits == uint32(len(s.chunks)) {
			s.chunks = append(s.chunks, new(slabChunk))
		}
	}
	sl := s.at(id)
	*sl = slot{gen: sl.gen + 1}
	s.used++
	return id
}

// give returns the slot; whoever still holds its old tag meets another
// generation.
func (s *slab) give(id uint32) {
	sl := s.at(id)
	*sl = slot{gen: sl.gen + 1, next: s.free}
	s.free = id
	s.used--
}

// pool is a slab of small pointer-free records, in chunks. Index 0 is none.
type pool[T any] struct {
	chunks []*[chunkSize]T
	size   uint32
}

func (p *pool[T]) at(i uint32) *T { return &p.chunks[i>>chunkBits][i&(chunkSize-1)] }

// grow returns a record that was never used.
func (p *pool[T]) grow() uint32 {
	if p.size == 0 {
		p.size = 1
	}
	if p.size>>chunkBits == uint32(len(p.chunks)) {
		p.chunks = append(p.chunks, new([chunkSize]T))
	}
	p.size++
	return p.size - 1
}
