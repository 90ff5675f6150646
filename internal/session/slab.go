package session

import (
	"pushgate/api"
	"pushgate/internal/poll"
)

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

	heard    uint16 // tick of the last sign of life
	messages uint16 // frames taken in that tick
	state    state
	beat     uint8 // what heartbeat the client asked for, as in beatSeconds; 0 is the usual one
	flags    uint8 // and, in the top bits, the transport
	nsubs    uint8 // how many of subs and of the extra ones are in use
}

const (
	flagTLS     = 1 << iota // its bytes go through extra.wire
	flagBehind              // it gets stored events from a replay, not as they come
	flagReplays             // extra.replays holds some
	flagSkips               // extra.skips does
	flagDeflate             // permessage-deflate was negotiated

	transportShift = 6
)

func (s *slot) transport() transport { return transport(s.flags >> transportShift) }

func (s *slot) setTransport(t transport) {
	s.flags = s.flags&(1<<transportShift-1) | uint8(t)<<transportShift
}

// membership is one session's place in one subject's list.
type membership struct {
	subject uint32 // index in index.subjects, 0 for none
	pos     uint32 // place in the subject's list
}

// maxSubjects is how many subjects a session can hold: slot.nsubs counts them.
const maxSubjects = 255

// ownBit marks, in a session's memberships, subjects that the client asked for
// itself; the others come with its token. Indexes are smaller.
const ownBit = 1 << 31

func (m membership) own() bool { return m.subject&ownBit != 0 }

// place is the membership as the index knows it.
func (m membership) place() membership { return membership{m.subject &^ ownBit, m.pos} }

// extra is what only few sessions have.
type extra struct {
	subs   []membership // beyond the two in the slot
	grants *heldGrants  // what the client may subscribe to itself; nil: nothing
	left   []string     // subjects of its token that it does not want

	wire *wire // TLS, where flagTLS is set

	replays []*replay // under way; one of the whole session is the first
	skips   []skip    // what comes live once more than it should
	ahead   uint64    // the client's own place, where that is beyond ours

	device string // as the client calls it; empty: it does not say
	acked  uint64 // the client says it has everything up to it
	kept   uint64 // and this was remembered
	keptAt uint16 // in which tick

	acquiring int     // subscriptions that NATS has not confirmed yet
	asking    *asking // about those that the client asked for; nil: none
	renewing  bool    // a token is with the verifiers
	echo      bool    // of conformance tests

	polling *polling // of a session whose client polls
}

// asking is what a client says of subjects that NATS has not confirmed yet.
type asking struct {
	coming []string      // these
	later  []api.Control // to be done when its subject is there
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
	transportSSE
	transportPoll
	transports
)

var transportLabels = [transports]string{"websocket", "sse", "poll"}

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
