package session

import (
	"slices"
	"testing"
	"time"

	"pushgate/api"
)

// TestNoEventIsHandledBeforeItCame: a loop that takes an event in the very turn
// in which it came, and which began before, does not take it for younger than it
// is, nor is it remembered as queued before it was seen.
func TestNoEventIsHandledBeforeItCame(t *testing.T) {
	h := startHub(t, func(c *Config) { c.Loops, c.FlightEvents = 1, 64 })
	h.dial(t, "alice")
	l := h.loops[0]
	func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.now = time.Now()
		over, kept := event("user.alice", "1"), event("user.alice", "2")
		over.ID, over.Expires = "over", time.Now().Add(time.Nanosecond)
		kept.ID = "kept"
		for !time.Now().After(over.Expires) {
			continue
		}
		h.Deliver([]api.Event{over, kept})
		l.takeMail()
	}()
	if n := h.Stats().Drops[DropExpired.String()]; n != 1 {
		t.Errorf("%d events are dropped as expired", n)
	}
	var whats []string
	for _, e := range h.Why(api.WhyRequest{User: "alice", ID: "kept"}).History {
		whats = append(whats, e.What)
	}
	if want := []string{"opened", "seen", "queued"}; !slices.Equal(whats, want) {
		t.Errorf("the history is %q, want %q", whats, want)
	}
}
