package session

import (
	"sync"
	"sync/atomic"
	"time"

	"pushgate/api"
)

// delivery is one event on its way through the loops.
type delivery struct {
	event    api.Event
	received time.Time

	encode sync.Once
	frame  []byte
}

// text returns the event's WebSocket frame, made once, whoever asks first.
func (d *delivery) text() []byte {
	d.encode.Do(func() {
		size := len(d.event.Subject) + len(d.event.ID) + len(d.event.Cursor) + len(d.event.Data) + 96
		d.frame = finishText(api.AppendEvent(beginFrame(make([]byte, 0, size)), &d.event))
	})
	return d.frame
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

func (d *delivery) cost() int64 { return int64(len(d.event.Data)) + deliveryCost }

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

	// count is everything that is not done yet: messages waiting and taken,
	// and unfinished broadcasts. Nobody may enter the loop past them.
	count atomic.Int64
}

// post adds a message. It reports false when it is an event that the box has
// no room for.
func (b *mailbox) post(m message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.event != nil {
		cost := m.event.cost()
		if waiting := b.bytes.Load(); waiting > 0 && waiting+cost > b.limit {
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
