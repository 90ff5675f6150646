package session

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
)

// TestFloodOfEventsIsBounded fills a loop's mailbox while the loop is held:
// what does not fit is dropped and counted, what fits arrives in order, and
// who wants to connect does not wait behind it.
func TestFloodOfEventsIsBounded(t *testing.T) {
	h := startHub(t, func(c *Config) { c.Loops = 1 })
	const room = 4 * turnSize
	l := h.loops[0]
	l.box.limit = room * (deliveryCost + 8)
	alice := h.dial(t, "alice")

	held, release := make(chan struct{}), make(chan struct{})
	l.post(message{do: func(*loop) { close(held); <-release }})
	<-held
	const sent = 2 * room
	for i := range sent {
		h.Deliver([]api.Event{event("user.alice", fmt.Sprintf("%8d", i))})
	}
	before := make(chan int64, 1)
	l.post(message{do: func(*loop) { before <- l.stats.deliveries.Load() }})
	close(release)

	if n := <-before; n > turnSize {
		t.Errorf("a call waited behind %d events", n)
	}
	for i := range room {
		if got := alice.next()["data"]; got != float64(i) {
			t.Fatalf("event %d is %v", i, got)
		}
	}
	if dropped := h.Stats().Drops[DropMailbox.String()]; dropped != sent-room {
		t.Errorf("%d events were dropped of %d with room for %d", dropped, sent, room)
	}
	h.Deliver([]api.Event{event("user.alice", `"after"`)})
	if got := alice.next()["data"]; got != "after" {
		t.Errorf("after the flood comes %v", got)
	}
	h.everywhere(func(l *loop) {
		if n := l.box.bytes.Load(); n != 0 {
			t.Errorf("%d bytes are counted as waiting, and nothing waits", n)
		}
	})
}

// TestBroadcastsWaitWithinTheBound has events of one subject pile up behind a
// broadcast: they count until they are on their way.
func TestBroadcastsWaitWithinTheBound(t *testing.T) {
	h, err := New(Config{Log: zap.NewNop(), Loops: 1, Subscriptions: map[string][]string{"": {"user.{sub}", "broadcast"}},
		Heartbeat: time.Hour, OutboxBytes: 1 << 20, EventBytes: 1 << 10, HalfOpen: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const takers = 4 * sliceSize
	h.everywhere(func(l *loop) {
		for i := range takers {
			_, id := enrollWith(h, fmt.Sprint("u", i), "broadcast")
			l.setDue(id, maxDue)
			// Nobody reads: all of it waits.
			tr := l.trafficOf(id, l.slots.at(id))
			tr.full, tr.out, tr.outBytes = true, []segment{{frames: pingFrame}}, len(pingFrame)
		}
		d := func(i int) *delivery {
			return &delivery{event: event("broadcast", fmt.Sprint(i)), received: time.Now()}
		}
		l.deliver(d(0))
		if n := l.box.bytes.Load(); n != 0 {
			t.Errorf("the broadcast under way counts %d bytes", n)
		}
		waiting := int64(0)
		for i := range 10 {
			e := d(i)
			if !l.deliver(e) {
				t.Error("an event of the same subject does not wait")
			}
			l.box.bytes.Add(e.cost())
			waiting += e.cost()
		}
		if n := l.box.bytes.Load(); n != waiting {
			t.Errorf("%d bytes wait, %d are counted", waiting, n)
		}
		for len(l.broadcasts) > 0 {
			l.runSlice()
		}
		if n := l.box.bytes.Load(); n != 0 {
			t.Errorf("%d bytes are counted after the end", n)
		}
		if l.delivered != 11*takers {
			t.Errorf("%d deliveries, want %d", l.delivered, 11*takers)
		}
	})
}
