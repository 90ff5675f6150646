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

// mailbox takes messages for a loop that is busy or that must not be entered.
// Posting never waits.
type mailbox struct {
	mu      sync.Mutex
	waiting []message
	bytes   int // payloads of waiting events
	limit   int

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
		size := len(m.event.event.Data)
		if b.bytes > 0 && b.bytes+size > b.limit {
			return false
		}
		b.bytes += size
	}
	b.waiting = append(b.waiting, m)
	b.count.Add(1)
	return true
}

// take swaps what waits for an empty slice with room.
func (b *mailbox) take(empty []message) []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.waiting
	b.waiting = empty[:0]
	b.bytes = 0
	return got
}
