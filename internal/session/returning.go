package session

import (
	"math/rand/v2"
	"sync"
	"time"
)

// returning tells clients that are turned away for now when to come back: the
// more of them there are, the further they are spread, so that they do not come
// together again.
type returning struct {
	capacity int // handshakes a second that can be served

	mu           sync.Mutex
	second       int64
	now, earlier int // turned away in this second and in the one before
}

const (
	// usualCapacity is what a gateway without limits.handshakes_per_second is
	// reckoned to serve.
	usualCapacity = 5000
	// leastSpread and mostSpread bound, in seconds, over what clients are spread.
	leastSpread, mostSpread = 5, 60
)

// retryAfter counts one more that is turned away, and is when it may try again.
func (b *returning) retryAfter(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch second := now.Unix(); {
	case second == b.second+1:
		b.second, b.earlier, b.now = second, b.now, 0
	case second != b.second:
		b.second, b.earlier, b.now = second, 0, 0
	}
	b.now++
	capacity := b.capacity
	if capacity == 0 {
		capacity = usualCapacity
	}
	spread := min(max(2*max(b.now, b.earlier)/capacity, leastSpread), mostSpread)
	return time.Duration(1+rand.IntN(spread)) * time.Second
}

func (h *Hub) retryAfter() time.Duration { return h.turned.retryAfter(h.cfg.Now()) }
