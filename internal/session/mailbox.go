package session

import (
	"sync"
	"sync/atomic"
	"time"

	"pushgate/api"
)

// delivery is one event on its way through the loops, and then in the ring.
type delivery struct {
	event    api.Event
	received time.Time
	epoch    uint32 // of the stream that its sequence is of
	size     int64  // of the payload, which is dropped when the frame is made

	policy Policy // where a client is slow

	encode   sync.Once
	frame    []byte
	variants [encodings - plainEncodings]variant
	wide     atomic.Bool // it goes to many: worth some effort

	ring  *ring // which holds it, or has held it
	grown int64 // what variants take there; the ring's
	held  bool  // the ring's

	receipt *receipt // nil: none is wanted

	// mark is no event, but something to be done in its place in the order.
	mark func(*loop)
}

func (h *Hub) newDelivery(e *api.Event, received time.Time) *delivery {
	return &delivery{event: *e, received: received, epoch: h.epoch, size: int64(e.Size()), policy: h.policyOf(e.Subject)}
}

// stale reports whether an event's time is over: it is not sent any more.
func (d *delivery) stale(now time.Time) bool {
	return !d.event.Expires.IsZero() && now.After(d.event.Expires)
}

// waits reports whether an event, while it waits for one session, may have to
// be taken back: its time runs out, or a newer one replaces it.
func (d *delivery) waits() bool {
	return d.event.Collapse != "" || !d.event.Expires.IsZero() || d.policy != PolicyDisconnect
}

// collapses reports whether an event may take the place of older ones.
func (d *delivery) collapses() bool { return d.event.Collapse != "" || d.policy == PolicyLatest }

// replaces reports whether a newer event takes the place of an older one that
// still waits.
func (d *delivery) replaces(older *delivery) bool {
	return d.collapses() && d.event.Collapse == older.event.Collapse && d.event.Subject == older.event.Subject
}

// message is what others have to say to a loop: exactly one field is set.
type message struct {
	event  *delivery
	admit  *admission
	refuse *answer
	do     func(*loop)
}

// deliveryCost is what a waiting event takes beside its payload: the event, its
// encoded frame's header and its place in the queues.
const deliveryCost = 512

func (d *delivery) cost() int64 { return d.size + deliveryCost }

// mailbox takes messages for a loop that is busy or that must not be entered.
// Posting never waits.
//
// Events keep their order. Whatever else there is to say goes before them: a
// flood of events must not keep anybody from connecting, nor a drain waiting.
type mailbox struct {
	mu     sync.Mutex
	calls  []message
	events []*delivery

	// bytes is what waits in events, in the loop's own part of them, and
	// behind broadcasts; limit bounds it.
	bytes atomic.Int64
	limit int64

	// missed is the first stored event that there was no room for, 0 for none.
	// None is taken then until the loop has caught up from the ring. It is
	// changed under mu.
	missed atomic.Uint64

	// marks counts those that are on their way.
	marks atomic.Int32

	// count is everything that is not done yet: messages waiting and taken,
	// and unfinished broadcasts. Nobody may enter the loop past them.
	count atomic.Int64
}

// mark adds a mark behind the events that wait. Stored events that there was no
// room for are of the past with it: the mark has everybody told.
func (b *mailbox) mark(d *delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.missed.Store(0)
	b.bytes.Add(d.cost())
	b.events = append(b.events, d)
	b.count.Add(1)
}

// post adds a message. It reports false when it is an event that the box has
// no room for.
func (b *mailbox) post(m message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.event != nil {
		cost, seq := m.event.cost(), m.event.event.Seq
		waiting := b.bytes.Load()
		if seq > 0 && b.missing() || waiting > 0 && waiting+cost > b.limit {
			if seq > 0 {
				b.missed.CompareAndSwap(0, seq)
			}
			return false
		}
		b.bytes.Add(cost)
		b.events = append(b.events, m.event)
	} else {
		b.calls = append(b.calls, m)
	}
	b.count.Add(1)
	return true
}

// takeCalls swaps the calls that wait for an empty slice with room.
func (b *mailbox) takeCalls(empty []message) []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.calls
	b.calls = empty[:0]
	return got
}

// takeEvents does the same with the events.
func (b *mailbox) takeEvents(empty []*delivery) []*delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.events
	b.events = empty[:0]
	return got
}

// behind returns the first stored event that was left out, once no older one
// waits here any more; else 0.
func (b *mailbox) behind() uint64 {
	missed := b.missed.Load()
	if missed == 0 || b.lowest(missed) < missed {
		return 0
	}
	return missed
}

// missing reports whether stored events had to be left out.
func (b *mailbox) missing() bool { return b.missed.Load() > 0 }

// caughtUp says that the loop has got what it missed from missed on up to a
// sequence, which was the newest then, unless there are newer ones by now.
func (b *mailbox) caughtUp(newest func() uint64, missed, through uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.missed.Load() != missed {
		return // a mark came: there is another stream
	}
	if newest() > through {
		b.missed.Store(through + 1)
		return
	}
	b.missed.Store(0)
}

// lowest is the lowest stored sequence that waits, or below if none is lower.
func (b *mailbox) lowest(below uint64) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.events {
		if d.event.Seq > 0 {
			below = min(below, d.event.Seq)
			break // they wait in the stream's order
		}
	}
	if missed := b.missed.Load(); missed > 0 {
		below = min(below, missed)
	}
	return below
}
