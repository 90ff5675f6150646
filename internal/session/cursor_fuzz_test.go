package session

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pushgate/api"
)

// asked is a History that only notes what it is asked for.
type asked struct{ fetches []api.Fetch }

func (a *asked) Fetch(r api.Fetch, _ func(api.Page, error)) { a.fetches = append(a.fetches, r) }

// FuzzResume: whatever a client calls its cursor, it gets all that came behind
// it, once and in order, or is told that nothing is known of what it missed.
func FuzzResume(f *testing.F) {
	const stream, first, last = "e1", 10, 20 // in the ring: what is behind first
	for _, s := range []string{"", "e1.9", "e1.10", "e1.15", "e1.20", "e1.21", "e2.15", "e1.015", "e1.9223372036854775807"} {
		f.Add(s)
	}
	h := readerHub(f)
	h.ring.limit = 1 << 20
	h.ring.begin(api.Position{Stream: stream, Seq: first})
	now := time.Now()
	for seq := uint64(first + 1); seq <= last; seq++ {
		subject := []string{"user.alice", "broadcast", "user.bob"}[seq%3]
		e := api.Event{Subject: subject, Seq: seq, Time: now, Data: fmt.Append(nil, seq), Cursor: api.Position{Stream: stream, Seq: seq}.Cursor()}
		h.ring.add(h.newDelivery(&e, now), now)
	}
	h.routed.Store(last)
	h.filled.Store(last)
	f.Fuzz(func(t *testing.T, cursor string) {
		history := &asked{}
		h.cfg.History = history
		l, id := enrollUser(h, "alice", now.Add(time.Hour).Unix())
		defer l.discard(id)
		s := l.slots.at(id)
		l.stream = stream
		l.resume(id, s, cursor)
		if s.state != stateOpen {
			t.Fatalf("%q ends the session", cursor)
		}
		at, known := api.ParseCursor(cursor)
		known = known && at.Stream == stream
		if known && at.Seq < first {
			if len(history.fetches) != 1 || history.fetches[0].After != at.Seq || l.outbox(s) != "" {
				t.Fatalf("for %q %+v is fetched, and %q sent", cursor, history.fetches, l.outbox(s))
			}
			return
		}
		var want []uint64
		for seq := at.Seq + 1; known && seq <= last; seq++ {
			if seq%3 != 2 {
				want = append(want, seq)
			}
		}
		got, end := replayed(t, l.outbox(s))
		reached := api.Position{Stream: stream, Seq: last}
		if known && at.Seq > last {
			reached = at
		}
		if !slices.Equal(got, want) || end.Complete != known || end.Replayed != len(want) || end.Cursor != reached.Cursor() || len(history.fetches) > 0 {
			t.Fatalf("%q: got %v and %+v, want %v", cursor, got, end, want)
		}
	})
}

type resumedFrame struct {
	Type, Cursor string
	Complete     bool
	Replayed     int
	Data         uint64
}

// replayed are the events of a replay, by the number that is their data, and
// the frame that ends it.
func replayed(t *testing.T, out string) (events []uint64, end resumedFrame) {
	t.Helper()
	for out != "" {
		b := []byte(out)
		n := frameEnd(b, 0)
		end = resumedFrame{}
		if err := json.Unmarshal(b[frameHead(b):n], &end); err != nil {
			t.Fatal(err)
		}
		if out = out[n:]; end.Type == "event" && out != "" {
			events = append(events, end.Data)
		}
	}
	if end.Type != "resumed" {
		t.Fatalf("the last frame is %+v", end)
	}
	return events, end
}
