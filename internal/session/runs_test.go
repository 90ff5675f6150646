package session

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
)

// TestRunAfterRunOfSeveralLists: what waits behind a broadcast whose takers
// stood in two lists, and then in one, reaches them all.
func TestRunAfterRunOfSeveralLists(t *testing.T) {
	h, err := New(Config{Log: zap.NewNop(), Loops: 1,
		Heartbeat: time.Hour, OutboxBytes: 1 << 20, EventBytes: 1 << 10, HalfOpen: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const takers = 2 * sliceSize
	h.everywhere(func(l *loop) {
		fill := func(user, subject string) uint32 {
			_, id := enrollWith(h, user, subject)
			l.setDue(id, maxDue)
			tr := l.trafficOf(id, l.slots.at(id))
			tr.full, tr.out, tr.outBytes = true, []segment{{frames: pingFrame}}, len(pingFrame)
			return id
		}
		for i := range takers {
			fill(fmt.Sprint("u", i), "rooms.1")
		}
		pattern := fill("w", "rooms.*")
		first := &delivery{event: event("rooms.1", "1"), received: time.Now()}
		l.deliver(first)
		l.deliver(&delivery{event: event("rooms.1", "2"), received: time.Now()})
		// The first run is about to end when the pattern's session goes.
		for l.delivered < takers {
			l.runSlice()
		}
		l.close(pattern, l.slots.at(pattern), api.ReasonLost)
		for l.broadcasts[0].events[0] == first {
			l.runSlice()
		}
		before := l.delivered
		for len(l.broadcasts) > 0 {
			l.runSlice()
		}
		if got := l.delivered - before; got != takers {
			t.Errorf("%d of %d got the second event", got, takers)
		}
	})
}
