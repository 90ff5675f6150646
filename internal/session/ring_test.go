package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/api"
)

// TestRingAgainstReference fills, trims and reads a ring, and holds what comes
// out against a plain list.
func TestRingAgainstReference(t *testing.T) {
	h := &Hub{}
	now := time.Unix(1_800_000_000, 0)
	subject := rapid.SampledFrom([]string{"a", "b", "a.x", "a.y", "b.x", "c"})
	pattern := rapid.OneOf(subject, rapid.SampledFrom([]string{"a.*", "*.x", ">", "a.>"}))
	rapid.Check(t, func(t *rapid.T) {
		r := &ring{limit: int64(rapid.IntRange(1, 40).Draw(t, "events")) * (deliveryCost + 20), maxAge: time.Minute}
		r.begin(api.Position{Stream: "s", Seq: 10})
		var all []api.Event
		seq, at := uint64(10), now
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			seq += uint64(rapid.IntRange(1, 2).Draw(t, "step"))
			at = at.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "seconds")) * time.Second)
			e := api.Event{Subject: subject.Draw(t, "subject"), Seq: seq, Time: at, Data: make([]byte, rapid.IntRange(0, 50).Draw(t, "size"))}
			all = append(all, e)
			r.add(h.newDelivery(&e, at), at)
		}
		if rapid.Bool().Draw(t, "sweep") {
			at = at.Add(30 * time.Second)
			r.sweep(at)
		}
		after, last := r.span()
		if n, bytes := r.size(); bytes > r.limit && n > 1 || last != seq || len(all) > 0 && after >= last && n > 0 {
			t.Fatalf("%d events of %d bytes, from %d to %d", n, bytes, after, last)
		}
		for range 5 {
			patterns := rapid.SliceOfNDistinct(pattern, 1, 3, rapid.ID).Draw(t, "patterns")
			from := uint64(rapid.IntRange(5, int(seq)+2).Draw(t, "from"))
			var got []uint64
			pos, rounds := from, 0
			for all := false; !all; rounds++ {
				var found []*delivery
				var ok bool
				found, pos, all, ok = r.read(nil, patterns, pos, rapid.SampledFrom([]int{1, 300, 1 << 20}).Draw(t, "bytes"))
				if !ok {
					if from >= after {
						t.Fatalf("from %d is not covered by what is behind %d", from, after)
					}
					break
				}
				for _, d := range found {
					got = append(got, d.event.Seq)
				}
				if rounds > 200 {
					t.Fatal("it never ends")
				}
			}
			if from < after {
				continue
			}
			var want []uint64
			for _, e := range all {
				if e.Seq > from && meets(patterns, e.Subject) {
					want = append(want, e.Seq)
				}
			}
			if !slices.Equal(got, want) || pos != max(from, last) {
				t.Fatalf("%v from %d: %v up to %d, want %v", patterns, from, got, pos, want)
			}
		}
		for _, s := range []string{"a", "b.x", "c", "d"} {
			var want uint64
			for _, e := range all {
				if e.Subject == s && e.Seq > after {
					want = e.Seq
				}
			}
			if d, _ := r.newestOf(s); d == nil && want > 0 || d != nil && d.event.Seq != want {
				t.Fatalf("the newest of %s is %v, want %d", s, d, want)
			}
		}
	})
}

// TestRingScansInPieces: a read that finds nothing does not pass over
// everything at once.
func TestRingScansInPieces(t *testing.T) {
	h := &Hub{}
	r := &ring{limit: 1 << 30}
	r.begin(api.Position{Stream: "s"})
	for i := range 3 * ringScan {
		r.add(h.newDelivery(&api.Event{Subject: fmt.Sprintf("a.%d", i%7), Seq: uint64(i + 1)}, time.Now()), time.Now())
	}
	if _, through, all, ok := r.read(nil, []string{"b.*"}, 0, 1<<20); !ok || all || through != ringScan {
		t.Errorf("it came to %d, %v, %v", through, all, ok)
	}
	if got, through, all, _ := r.read(nil, []string{"a.3"}, 3*ringScan-10, 1<<20); len(got) == 0 || !all || through != 3*ringScan {
		t.Errorf("%d events up to %d, %v", len(got), through, all)
	}
}

func stored(seq uint64, subject string, change func(*api.Event)) api.Event {
	e := api.Event{Subject: subject, Seq: seq, Cursor: api.Position{Stream: "s1", Seq: seq}.Cursor(), Time: time.Now(), Data: fmt.Append(nil, seq)}
	if change != nil {
		change(&e)
	}
	return e
}

func collapse(key string) func(*api.Event) { return func(e *api.Event) { e.Collapse = key } }

func expired(e *api.Event) { e.Expires = time.Now().Add(-time.Second) }

// TestCollapseAndTTLInAReplay: of what replaces each other the newest comes,
// and nothing that is too old.
func TestCollapseAndTTLInAReplay(t *testing.T) {
	a := storedHub(t, nil)
	a.hub.Deliver([]api.Event{
		stored(1, "user.alice", collapse("k")), stored(2, "user.alice", expired), stored(3, "user.alice", collapse("other")),
		stored(4, "broadcast", collapse("k")), stored(5, "user.alice", collapse("k")), stored(6, "user.alice", nil),
	})
	c := a.join(t, grant(t, nil), "cursor=s1.0")
	if got := c.events(4); fmt.Sprint(got) != "[3 4 5 6]" {
		t.Errorf("got %v", got)
	}
	if m := c.next(); m["replayed"] != 4.0 || m["complete"] != true {
		t.Errorf("got %v", m)
	}
}

// TestCollapseAndTTLInTheOutbox has a client that does not read: what waits for
// it is replaced by what is newer, and dropped when its time is over.
func TestCollapseAndTTLInTheOutbox(t *testing.T) {
	clock := newStillClock()
	a := storedHub(t, func(c *Config) { c.Now, c.OutboxBytes, c.EventBytes = clock.now, 64<<20, 1<<20 })
	raw := a.hub.dialRaw(t, grant(t, nil))
	c := &frozen{bufferedConn{raw.Conn, raw.r}, t} // with room to read much in a short time
	c.next()                                       // welcome
	flash := func(key, data string, ttl time.Duration) api.Event {
		e := api.Event{Subject: "user.alice", Time: time.Now(), Data: []byte(data), Collapse: key}
		if ttl > 0 {
			e.Expires = clock.now().Add(ttl)
		}
		return e
	}
	const big = 900 << 10
	fill := slices.Repeat([]api.Event{flash("", `"`+strings.Repeat("x", big)+`"`, 0)}, 20) // more than any kernel takes
	a.hub.Deliver(fill)
	eventually(t, "all of it is on its way", func() bool { return a.hub.Stats().Deliveries == int64(len(fill)) })
	if waits := a.hub.Stats().Outbox; waits < 2*big {
		t.Fatalf("%d bytes wait", waits)
	}
	a.hub.Deliver([]api.Event{
		flash("k", `"first"`, 0), flash("", `"plain"`, 0), flash("k", `"second"`, 0), flash("", `"soon over"`, time.Second), flash("k", `"third"`, time.Hour),
	})
	eventually(t, "two were replaced", func() bool { return a.hub.Stats().Drops["collapsed"] == 2 })
	clock.move(a.hub, 2*time.Second)
	var got []any
	for len(got) < 2 {
		if data := c.next()["data"]; len(fmt.Sprint(data)) < big {
			got = append(got, data)
		}
	}
	if !slices.Equal(got, []any{"plain", "third"}) {
		t.Errorf("got %v", got)
	}
	if n := a.hub.Stats().Drops["expired"]; n != 1 {
		t.Errorf("%d have expired", n)
	}
}

// TestReceipts: whoever publishes with a reply hears how many sessions got it,
// once, and nothing of nobody.
func TestReceipts(t *testing.T) {
	type receipt struct {
		reply string
		n     int
	}
	got := make(chan receipt, 100)
	a := storedHub(t, func(c *Config) {
		c.Loops, c.Receipt = 3, func(reply string, n int) { got <- receipt{reply, n} }
		c.Heartbeat = time.Hour // nobody reads
	})
	for i := range 300 {
		a.join(t, grant(t, map[string]any{"sub": fmt.Sprintf("u%d", i%10)}), "")
	}
	flash := func(subject, reply string) api.Event {
		return api.Event{Subject: subject, Time: time.Now(), Data: []byte("1"), Reply: reply}
	}
	for i, tc := range []struct {
		subject string
		want    int
	}{{"user.u3", 30}, {"user.nobody", 0}, {"broadcast", 300}, {"team.red", 300}, {"elsewhere", 0}, {"user.u4", 30}} {
		reply := fmt.Sprint(i)
		a.hub.Deliver([]api.Event{flash(tc.subject, reply)})
		if tc.want == 0 {
			continue // the next receipt must not be this one's
		}
		select {
		case r := <-got:
			if r.reply != reply || r.n != tc.want {
				t.Errorf("%s: %+v, want %d", tc.subject, r, tc.want)
			}
		case <-time.After(patience):
			t.Fatalf("%s: no receipt", tc.subject)
		}
	}
	if len(got) != 0 {
		t.Errorf("%d more receipts", len(got))
	}
}

func BenchmarkRingAdd(b *testing.B) {
	h := &Hub{}
	r := &ring{limit: 64 << 20, maxAge: time.Hour}
	r.begin(api.Position{Stream: "s"})
	subjects := make([]string, 10_000)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("user.u%d", i)
	}
	now := time.Now()
	data := make([]byte, 256)
	for i := 0; b.Loop(); i++ {
		e := api.Event{Subject: subjects[i%len(subjects)], Seq: uint64(i + 1), Time: now, Data: data}
		r.add(h.newDelivery(&e, now), now)
	}
	b.ReportAllocs()
}

func BenchmarkRingRead(b *testing.B) {
	h := &Hub{}
	r := &ring{limit: 64 << 20}
	r.begin(api.Position{Stream: "s"})
	now := time.Now()
	const events = 60_000
	for i := range events {
		r.add(h.newDelivery(&api.Event{Subject: fmt.Sprintf("user.u%d", i%10_000), Seq: uint64(i + 1), Time: now, Data: make([]byte, 256)}, now), now)
	}
	patterns := []string{"user.u77", "broadcast"}
	var found []*delivery
	for b.Loop() {
		found, _, _, _ = r.read(found[:0], patterns, events-50_000, 32<<10) // five missed events
	}
	if len(found) != 5 {
		b.Fatalf("%d events", len(found))
	}
	b.ReportAllocs()
}
