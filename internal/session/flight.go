package session

import (
	"strings"
	"sync"
	"time"

	"pushgate/api"
)

// The flight recorder remembers what happened lately, for whoever asks why an
// event did not arrive (see why.go). It is rings of fixed size: one of the hub,
// for what comes in, and two in each loop, so that a storm of connections does
// not wipe out the events, nor a flood of events the endings. A session that
// idles has nothing in it.
//
// An entry of an event names its session by slot and generation: no name is
// looked up on the way. Whose session that was is told by the user's chain while
// it lives, and afterwards by its ending, which is noted in the same ring behind
// everything that it got.

// happened is what an entry says.
type happened uint8

const (
	wasSeen         happened = iota // it entered the hub
	wasUnwanted                     // it entered, and no session takes its subject
	wasQueued                       // it was given to a session
	wasBroadcast                    // it was given to many
	wasReplayed                     // a session got what it had missed, up to seq
	wasAcknowledged                 // a client says that it has everything up to seq
	wasDropped                      // why is the cause
	wasForbidden                    // a session asked for a subject that it may not have
	wasOpened
	wasClosed // why is the reason
	wasPolled // a poll was answered, and with that is over
	wasRefused
)

var happenedLabels = [...]string{
	"seen", "no_taker", "queued", "broadcast", "replayed", "acknowledged", "dropped", "forbidden",
	"opened", "closed", "polled", "refused",
}

func (h happened) String() string { return happenedLabels[h] }

// ofEvent reports whether an entry is about one event.
func (h happened) ofEvent() bool { return h <= wasBroadcast || h == wasDropped }

// happening is an entry about an event. It holds no memory but its subject: an
// id is often a part of something large.
type happening struct {
	at      int64 // Unix nanoseconds
	seq     uint64
	subject string // or the user, of an ending
	slot    *slot  // with gen: the session; nil for none
	gen     uint32
	count   uint32 // sessions, or events
	what    happened
	why     uint8
	idLen   uint16
	id      [idRoom]byte
}

// idRoom is how much of an id is kept. A longer one is known by its beginning
// and its length.
const idRoom = 44

func (e *happening) setID(id string) {
	copy(e.id[:], id)
	e.idLen = uint16(min(len(id), 1<<16-1))
}

func (e *happening) hasID(id string) bool {
	return int(e.idLen) == min(len(id), 1<<16-1) && string(e.id[:min(len(id), idRoom)]) == id[:min(len(id), idRoom)]
}

func (e *happening) idText() string {
	if int(e.idLen) > idRoom {
		return string(e.id[:]) + "…"
	}
	return string(e.id[:e.idLen])
}

// turning is an entry about a session's beginning or end, or of one that was
// refused.
type turning struct {
	at      int64
	user    string
	session string // its id; empty when it was refused
	subject string // that was not granted
	reason  string
	slot    *slot
	gen     uint32
	what    happened
}

// recent is a ring of the newest entries. Its zero value keeps none.
type recent[T any] struct {
	entries []T
	next    int
	full    bool
}

func newRecent[T any](size int) recent[T] { return recent[T]{entries: make([]T, size)} }

// add returns the place of the next entry, which holds an old one; nil when none
// are kept.
func (r *recent[T]) add() *T {
	if len(r.entries) == 0 {
		return nil
	}
	e := &r.entries[r.next]
	if r.next++; r.next == len(r.entries) {
		r.next, r.full = 0, true
	}
	return e
}

// all calls f for each entry, oldest first.
func (r *recent[T]) all(f func(*T)) {
	if r.full {
		for i := range r.entries[r.next:] {
			f(&r.entries[r.next+i])
		}
	}
	for i := range r.entries[:r.next] {
		f(&r.entries[i])
	}
}

// flight is one loop's part of the recorder, under the loop's lock.
type flight struct {
	events   recent[happening]
	sessions recent[turning]
}

// hubFlight is the hub's part.
type hubFlight struct {
	mu     sync.Mutex // Deliver's, but for who asks
	events recent[happening]

	refusing sync.Mutex // apart: no loop waits for Deliver
	refusals recent[turning]
}

// Shares of the recorder's size: a unicast is one entry of the hub and one of a
// loop.
func hubShare(size int) (events, refusals int)         { return size * 3 / 8, size / 8 }
func loopShare(size, loops int) (events, sessions int) { return size * 3 / 8 / loops, size / 8 / loops }

func newFlight(size, loops int) flight {
	events, sessions := loopShare(size, loops)
	return flight{newRecent[happening](events), newRecent[turning](sessions)}
}

func (f *hubFlight) init(size int) {
	events, refusals := hubShare(size)
	f.events, f.refusals = newRecent[happening](events), newRecent[turning](refusals)
}

// note remembers what became of an event as it entered; mu is held.
func (f *hubFlight) note(at int64, what happened, why DropCause, e *api.Event) {
	if n := f.events.add(); n != nil {
		n.at, n.seq, n.subject, n.slot, n.gen, n.count, n.what, n.why = at, e.Seq, e.Subject, nil, 0, 0, what, uint8(why)
		n.setID(e.ID)
	}
}

// lost remembers an event that there was no room for.
func (f *hubFlight) lost(d *delivery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(d.received.UnixNano(), wasDropped, DropMailbox, &d.event)
}

// refused remembers a handshake that was refused after its user was known.
func (f *hubFlight) refused(at time.Time, hs *handshake, r api.Refusal) {
	if hs.user == "" {
		return
	}
	f.refusing.Lock()
	defer f.refusing.Unlock()
	if n := f.refusals.add(); n != nil {
		*n = turning{at: at.UnixNano(), user: hs.user, subject: strings.Clone(hs.forbidden), reason: r.Kind.String() + ": " + r.Message, what: wasRefused}
	}
}

// noteEvent remembers what became of an event, for a session or, with nil, for
// all.
func (l *loop) noteEvent(what happened, why DropCause, s *slot, d *delivery) {
	n := l.flight.events.add()
	if n == nil {
		return
	}
	n.at, n.seq, n.subject, n.slot, n.gen, n.count, n.what, n.why = l.now.UnixNano(), d.event.Seq, d.event.Subject, s, 0, 0, what, uint8(why)
	if s != nil {
		n.gen = s.gen
	}
	if what == wasDropped {
		n.subject = strings.Clone(d.event.Subject) // of a replay it is a part of something large
	}
	n.setID(d.event.ID)
}

// noteBroadcast remembers the events that a broadcast has served: one entry for
// all their takers.
func (l *loop) noteBroadcast(b *broadcast) {
	for _, d := range b.events {
		n := l.flight.events.add()
		if n == nil {
			return
		}
		*n = happening{at: l.now.UnixNano(), seq: d.event.Seq, subject: d.event.Subject, count: uint32(b.given), what: wasBroadcast}
		n.setID(d.event.ID)
	}
}

// notePlace remembers how far a session has come: by its own word, or by a
// replay of so many events.
func (l *loop) notePlace(what happened, s *slot, seq uint64, count int) {
	if n := l.flight.events.add(); n != nil {
		*n = happening{at: l.now.UnixNano(), seq: seq, slot: s, gen: s.gen, count: uint32(count), what: what}
	}
}

// noteForbidden remembers that a session asked for what it may not have.
func (l *loop) noteForbidden(s *slot, subject string) {
	if n := l.flight.events.add(); n != nil {
		*n = happening{at: l.now.UnixNano(), subject: strings.Clone(subject), slot: s, gen: s.gen, what: wasForbidden}
	}
}

// noteOpened remembers a session's beginning. Polls come and go by the second:
// what they got tells more.
func (l *loop) noteOpened(id uint32, s *slot) {
	if s.transport() == transportPoll {
		return
	}
	if n := l.flight.sessions.add(); n != nil {
		*n = turning{
			at: l.now.UnixNano(), user: string(l.names.get(s.user)), session: l.hub.ids.id(l.number, id, s.gen),
			reason: transportLabels[s.transport()], slot: s, gen: s.gen, what: wasOpened,
		}
	}
}

// noteClosed remembers a session's end, while its user is known.
func (l *loop) noteClosed(id uint32, s *slot, what happened, why api.Reason) {
	if len(l.flight.events.entries) == 0 {
		return
	}
	user := string(l.names.get(s.user))
	// That it was this user's, behind what it got.
	if n := l.flight.events.add(); n != nil {
		*n = happening{at: l.now.UnixNano(), subject: user, slot: s, gen: s.gen, count: id, what: what, why: uint8(why)}
	}
	if what != wasClosed {
		return
	}
	if n := l.flight.sessions.add(); n != nil {
		*n = turning{
			at: l.now.UnixNano(), user: user, session: l.hub.ids.id(l.number, id, s.gen),
			reason: why.String(), slot: s, gen: s.gen, what: wasClosed,
		}
	}
}
