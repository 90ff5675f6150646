package session

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"pushgate/api"
)

// archive is a stored stream of these tests: a plain list, which is the
// reference as well.
type archive struct {
	hub *testHub

	mu      sync.Mutex
	id      string
	events  []api.Event
	first   uint64 // sequences before it were trimmed
	fetches int
	fail    error
}

// Fetch implements History, late and in small pages.
func (a *archive) Fetch(r api.Fetch, done func(api.Page, error)) {
	a.mu.Lock()
	a.fetches++
	a.mu.Unlock()
	time.AfterFunc(time.Millisecond, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		switch {
		case a.fail != nil:
			go done(api.Page{}, a.fail)
			return
		case r.Stream != a.id:
			go done(api.Page{}, api.ErrOtherStream)
			return
		}
		p := api.Page{Through: r.Through, Trimmed: r.After+1 < a.first}
		newest, cut := map[string]int{}, false
		for _, e := range a.events {
			if e.Seq <= r.After || e.Seq > r.Through || e.Seq < a.first || !meets(r.Subjects, e.Subject) {
				continue
			}
			if r.Last {
				if at, ok := newest[e.Subject]; ok {
					p.Events = append(p.Events[:at], p.Events[at+1:]...)
					for s, other := range newest {
						if other > at {
							newest[s]--
						}
					}
				}
				newest[e.Subject] = len(p.Events)
			} else if len(p.Events) > 0 && r.Bytes < len(e.Data)+api.EventOverhead {
				cut = true
				break
			}
			p.Events = append(p.Events, e)
			p.Through = e.Seq
			r.Bytes -= len(e.Data) + api.EventOverhead
		}
		if !cut {
			p.Through = r.Through
		}
		go done(p, nil)
	})
}

// publish stores events and hands them to the hub, as the bus does.
func (a *archive) publish(subjects ...string) {
	a.mu.Lock()
	batch := make([]api.Event, len(subjects))
	for i, s := range subjects {
		seq := uint64(len(a.events) + 1)
		batch[i] = api.Event{
			Subject: s, Seq: seq, Cursor: api.Position{Stream: a.id, Seq: seq}.Cursor(), Time: time.Now(), Data: fmt.Appendf(nil, "%d", seq),
		}
		a.events = append(a.events, batch[i])
	}
	a.mu.Unlock()
	a.hub.Deliver(batch)
}

// lose tells the hub that events up to a sequence could not be got, and waits
// until the loops know: who comes before they do is told of it.
func (a *archive) lose(t *testing.T, through uint64) {
	t.Helper()
	a.hub.Lost(through)
	eventually(t, "the loops know", func() bool {
		return !slices.ContainsFunc(a.hub.loops, func(l *loop) bool { return l.box.marks.Load() > 0 })
	})
}

// want are the sequences behind a place on some subjects.
func (a *archive) want(after uint64, patterns ...string) (seqs []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if e.Seq > after && meets(patterns, e.Subject) {
			seqs = append(seqs, e.Seq)
		}
	}
	return seqs
}

// storedHub is a hub of real tokens with a stream.
func storedHub(t testing.TB, change func(*Config)) *archive {
	a := &archive{id: "s1", first: 1}
	h, _ := tokenHub(t, func(c *Config) {
		c.History, c.RingBytes = a, 1<<20
		if change != nil {
			change(c)
		}
	})
	a.hub = h
	h.Stream(api.Position{Stream: a.id}, 0)
	return a
}

// join connects with a query and reads the welcome.
func (a *archive) join(t testing.TB, token, query string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+a.hub.addr+"/v1/ws?"+query, &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	c := &client{Conn: conn, tb: t}
	t.Cleanup(func() { _ = conn.CloseNow() })
	c.welcome = c.next()
	return c
}

// difference says where two lists part.
func difference(got, want []uint64) string {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			return fmt.Sprintf("of %d and %d from the %dth on got %v, want %v", len(got), len(want), i, got[i:min(i+5, len(got))], want[i:min(i+5, len(want))])
		}
	}
	return ""
}

func seqOf(t testing.TB, m map[string]any) uint64 {
	t.Helper()
	cursor, _ := m["cursor"].(string)
	p, ok := api.ParseCursor(cursor)
	if !ok {
		t.Fatalf("no cursor in %v", m)
	}
	return p.Seq
}

// events reads so many events and returns their sequences.
func (c *client) events(n int) (seqs []uint64) {
	c.tb.Helper()
	for len(seqs) < n {
		m := c.next()
		if m["type"] != "event" {
			c.tb.Fatalf("got %v after %d of %d events", m, len(seqs), n)
		}
		seqs = append(seqs, seqOf(c.tb, m))
	}
	return seqs
}

// TestResumeExactlyOnce has clients lose their connections again and again
// while events go on, and come back with their cursors: from the ring, and from
// far behind it. Each gets everything once and in order.
func TestResumeExactlyOnce(t *testing.T) {
	for _, ring := range []int64{1 << 20, 20 << 10} {
		t.Run(fmt.Sprint(ring), func(t *testing.T) {
			a := storedHub(t, func(c *Config) { c.RingBytes = ring })
			const clients, events = 12, 6000
			done := make(chan struct{})
			go func() {
				defer close(done)
				for n := 0; n < events; {
					var batch []string
					for range 1 + rand.IntN(8) {
						batch = append(batch, []string{"broadcast", "team.red", fmt.Sprintf("user.u%d", rand.IntN(clients)), "nobody"}[rand.IntN(4)])
					}
					a.publish(batch...)
					n += len(batch)
					pause := time.NewTimer(100 * time.Microsecond)
					<-pause.C
				}
			}()
			var all sync.WaitGroup
			for i := range clients {
				all.Go(func() { a.comeAndGo(t, fmt.Sprintf("u%d", i), done) })
			}
			all.Wait()
			eventually(t, "everybody is gone", func() bool { return a.hub.open.Load() == 0 })
			for _, l := range a.hub.loops {
				// The end of a session that had more to pull may be of this turn.
				eventually(t, "no extras and pulls are left", func() (none bool) {
					a.hub.call(l, func(l *loop) { none = len(l.freeExtras) == len(l.extras)-1 && len(l.pulls) == 0 })
					return none
				})
			}
		})
	}
}

// comeAndGo is one client, until it has everything that was published.
func (a *archive) comeAndGo(t *testing.T, user string, done chan struct{}) {
	token := grant(t, map[string]any{"sub": user})
	patterns := []string{"user." + user, "team.red", "broadcast"}
	c := a.join(t, token, "")
	begin := seqOf(t, c.welcome)
	last := begin
	var got []uint64
	var want []uint64 // everything, once that is known
	over, news := false, time.Now()
	for {
		if over && time.Since(news) > patience {
			t.Errorf("%s never gets everything: %s", user, difference(got, want))
			return
		}
		for range 1 + rand.IntN(200) {
			wait := 5 * time.Second // then it comes back for nothing
			select {
			case <-done:
				if !over {
					over, news = true, time.Now()
					want = a.want(begin, patterns...)
				}
				if len(got) >= len(want) {
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%s got not what it should: %s", user, difference(got, want))
					}
					_ = c.CloseNow()
					return
				}
				wait = patience // what it has not got comes by itself
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			_, b, err := c.Read(ctx)
			cancel()
			if err != nil {
				break // it is slow, or nothing comes any more: it comes back
			}
			var m map[string]any
			if err := json.Unmarshal(b, &m); err != nil {
				t.Error(err)
				return
			}
			if m["type"] == "resumed" && m["complete"] != true {
				t.Errorf("%s was told %v", user, m)
			}
			seq := seqOf(t, m)
			if m["type"] == "event" {
				if seq <= last {
					t.Errorf("%s got %d behind %d", user, seq, last)
				}
				got = append(got, seq)
				news = time.Now()
			}
			last = max(last, seq)
		}
		_ = c.CloseNow()
		c = a.join(t, token, "cursor="+api.Position{Stream: a.id, Seq: last}.Cursor())
		if c.welcome["cursor"] != nil {
			t.Errorf("the welcome of one who brought a cursor has %v", c.welcome["cursor"])
		}
	}
}

func TestResumedSays(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.RingBytes = 20 << 10 })
	token := grant(t, nil)
	for range 100 {
		a.publish("user.alice", "other")
	}
	for _, tc := range []struct {
		name, cursor string
		replayed     int
		complete     bool
		at           uint64
	}{
		{"the end", "s1.200", 0, true, 200},
		{"the last one", "s1.198", 1, true, 200},
		{"behind somebody else's", "s1.199", 0, true, 200},
		{"far behind", "s1.0", 100, true, 200},
		{"another stream", "s2.10", 0, false, 200},
		{"nonsense", "x", 0, false, 200},
		{"ahead of this gateway", "s1.205", 0, true, 205},
	} {
		c := a.join(t, token, "cursor="+tc.cursor)
		c.events(tc.replayed)
		m := c.next()
		if m["type"] != "resumed" || m["complete"] != tc.complete || m["replayed"] != float64(tc.replayed) || seqOf(t, m) != tc.at {
			t.Errorf("%s: %v", tc.name, m)
		}
		_ = c.CloseNow()
	}
	// Trimmed: what is left comes, and that it is not all is said.
	a.mu.Lock()
	a.first = 51
	a.mu.Unlock()
	c := a.join(t, token, "cursor=s1.10")
	c.events(75)
	if m := c.next(); m["complete"] != false || m["replayed"] != 75.0 {
		t.Errorf("trimmed: %v", m)
	}
	// NATS is away: it is said, and life goes on.
	a.mu.Lock()
	a.fail = context.DeadlineExceeded
	a.mu.Unlock()
	c = a.join(t, token, "cursor=s1.60")
	for {
		m := c.next()
		if m["type"] == "resumed" {
			if m["complete"] != false {
				t.Errorf("without NATS: %v", m)
			}
			break
		}
	}
	a.publish("user.alice")
	if got := c.events(1); got[0] != 201 {
		t.Errorf("got %v", got)
	}
}

// TestAheadOfThisGateway: what the client has had elsewhere it does not get
// again, and a place that never comes is no place.
func TestAheadOfThisGateway(t *testing.T) {
	clock := newStillClock()
	a := storedHub(t, func(c *Config) { c.Now = clock.now })
	a.publish("user.alice")
	c := a.join(t, grant(t, nil), "cursor=s1.3")
	if m := c.next(); m["complete"] != true || seqOf(t, m) != 3 {
		t.Errorf("got %v", m)
	}
	a.publish("user.alice", "user.alice", "user.alice", "user.alice")
	if got := c.events(2); fmt.Sprint(got) != "[4 5]" {
		t.Errorf("got %v", got)
	}
	far := a.join(t, grant(t, nil), "cursor=s1.1000")
	if m := far.next(); m["complete"] != true {
		t.Errorf("got %v", m)
	}
	clock.move(a.hub, aheadTicks*time.Second)
	far.expect(`{"type":"ping","ref":"1"}`, "pong 1") // it may yet come
	clock.move(a.hub, time.Second)
	if m := far.next(); m["type"] != "resumed" || m["complete"] != false || seqOf(t, m) != 5 {
		t.Errorf("got %v", m)
	}
	a.publish("user.alice")
	if got := far.events(1); got[0] != 6 {
		t.Errorf("got %v", got)
	}
}

func TestPongMovesTheCursor(t *testing.T) {
	a := storedHub(t, nil)
	c := a.join(t, grant(t, nil), "")
	if at := seqOf(t, c.welcome); at != 0 {
		t.Errorf("it begins at %d", at)
	}
	for range 50 {
		a.publish("user.bob", "team.blue")
	}
	// A loop that was busy has yet to look at them.
	eventually(t, "the cursor is at the end", func() bool {
		return seqOf(t, c.expect(`{"type":"ping","ref":"1"}`, "pong 1")) == 100
	})
}

// TestLostAndMadeAnew: whoever is connected hears of a gap that cannot be
// filled, and of a stream that is another one now.
func TestLostAndMadeAnew(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.Heartbeat = time.Hour }) // the first are not read until all are there
	var all []*client
	for range 2*tellSlice + 3 {
		all = append(all, a.join(t, grant(t, nil), ""))
	}
	a.publish("user.alice")
	a.hub.Lost(7)
	for _, c := range all {
		c.events(1)
		if m := c.next(); m["type"] != "resumed" || m["complete"] != false || m["replayed"] != 0.0 || seqOf(t, m) != 7 {
			t.Fatalf("got %v", m)
		}
	}
	a.hub.Stream(api.Position{Stream: "s2"}, 0)
	for _, c := range all {
		if m := c.next(); m["complete"] != false || m["cursor"] != "s2.0" {
			t.Fatalf("got %v", m)
		}
	}
	a.hub.Deliver([]api.Event{{Subject: "user.alice", Seq: 1, Cursor: "s2.1", Time: time.Now(), Data: []byte("1")}})
	for _, c := range all {
		if m := c.next(); m["cursor"] != "s2.1" {
			t.Fatalf("got %v", m)
		}
	}
}

func TestSubscribeWithAPlace(t *testing.T) {
	for _, ring := range []int64{1 << 20, 10 << 10} {
		a := storedHub(t, func(c *Config) { c.RingBytes = ring })
		for range 20 {
			a.publish("rooms.1", "rooms.2", "user.alice")
		}
		c := a.join(t, grant(t, may("rooms.*")), "")
		read := func(ref string, n int, complete bool) {
			t.Helper()
			last := uint64(0)
			for range n {
				m := c.next()
				if m["replay"] != true || m["type"] != "event" || seqOf(t, m) <= last {
					t.Fatalf("%s: %v behind %d", ref, m, last)
				}
				last = seqOf(t, m)
			}
			m := c.next()
			if m["type"] != "resumed" || m["ref"] != ref || m["complete"] != complete || m["replayed"] != float64(n) {
				t.Fatalf("%s: %v", ref, m)
			}
		}
		c.expect(`{"type":"subscribe","ref":"1","subject":"rooms.1","from":"last"}`, "subscribed rooms.1 1")
		read("1", 1, true)
		c.expect(`{"type":"subscribe","ref":"2","subject":"rooms.2","from":"start"}`, "subscribed rooms.2 2")
		read("2", 20, true)
		// What it has already can be asked for again, up to now.
		c.expect(`{"type":"subscribe","ref":"3","subject":"rooms.2","cursor":"s1.30"}`, "subscribed rooms.2 3")
		read("3", 10, true)
		c.expect(`{"type":"subscribe","ref":"4","subject":"rooms.*","from":"last"}`, "subscribed rooms.* 4")
		read("4", 2, true)
		c.expect(`{"type":"subscribe","ref":"5","subject":"rooms.3","cursor":"s9.1"}`, "subscribed rooms.3 5")
		read("5", 0, false)
		c.expect(`{"type":"subscribe","ref":"6","subject":"rooms.4","from":"last"}`, "subscribed rooms.4 6")
		read("6", 0, true)
		a.publish("rooms.1", "rooms.2", "rooms.3", "rooms.4", "rooms.5")
		if got := c.events(5); fmt.Sprint(got) != "[61 62 63 64 65]" {
			t.Errorf("live: %v", got)
		}
		c.expect(`{"type":"subscribe","ref":"7","subject":"other","from":"last"}`, "error forbidden 7")
	}
}

// TestReplayAndLiveTogether subscribes from the start while events go on: the
// past and what comes live meet without a seam.
func TestReplayAndLiveTogether(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.RingBytes = 50 << 10 })
	const clients = 8
	// What each has read of what comes live. Nobody is left so far behind that
	// it would be too slow, or that its past would grow faster than it reads.
	var read [clients]atomic.Uint64
	for i := range read {
		read[i].Store(forever) // it is not there
	}
	slowest := func() uint64 {
		least := uint64(forever)
		for i := range read {
			least = min(least, read[i].Load())
		}
		return least
	}
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, last := a.hub.ring.span(); last-min(last, slowest()) < 100 {
					a.publish("rooms.1", "rooms.2", "broadcast")
				}
				pause := time.NewTimer(200 * time.Microsecond)
				<-pause.C
			}
		}
	})
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			defer read[n].Store(forever)
			c := a.join(t, grant(t, may("rooms.*")), "")
			read[n].Store(seqOf(t, c.welcome))
			next := func() map[string]any {
				m := c.next()
				if m["subject"] == "broadcast" {
					read[n].Store(seqOf(t, m))
				}
				return m
			}
			for i := range 6 {
				subject := []string{"rooms.1", "rooms.2", "rooms.*"}[i%3]
				c.say(fmt.Sprintf(`{"type":"subscribe","ref":"%d","subject":%q,"from":"start"}`, i, subject))
				var got []uint64
				replayed := -1
				for live := 0; live < 20; {
					m := next()
					name, _ := m["subject"].(string)
					switch {
					case m["type"] == "resumed":
						if replayed = len(got); m["complete"] != true || m["replayed"] != float64(replayed) {
							t.Errorf("got %v after %d", m, replayed)
						}
					case m["type"] != "event" || !api.Match(subject, name):
						continue
					case m["replay"] == true && replayed >= 0, m["replay"] == nil && replayed < 0:
						t.Errorf("%v on the wrong side of %d", m, replayed)
					case m["replay"] == nil:
						live++
					}
					if m["type"] == "event" {
						got = append(got, seqOf(t, m))
					}
				}
				want := a.want(0, subject)
				if d := difference(got, want[:min(len(got), len(want))]); d != "" {
					t.Errorf("%s: %s", subject, d)
				}
				c.say(fmt.Sprintf(`{"type":"unsubscribe","ref":"u","subject":%q}`, subject))
				for next()["ref"] != "u" {
					continue
				}
			}
			_ = c.CloseNow()
		})
	}
	all.Wait()
	close(stop)
	publishing.Wait()
}

// TestLongReplayFillsNoMemory resumes a long history with a client that reads
// slowly: never more than a little is taken ahead of it.
func TestLongReplayFillsNoMemory(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.RingBytes = 100 << 10 })
	a.mu.Lock()
	for range 2000 {
		seq := uint64(len(a.events) + 1)
		a.events = append(a.events, api.Event{
			Subject: "user.alice", Seq: seq, Cursor: api.Position{Stream: a.id, Seq: seq}.Cursor(), Time: time.Now(),
			Data: []byte(`"` + strings.Repeat("x", 4000) + `"`),
		})
	}
	a.mu.Unlock()
	a.lose(t, 2000)
	a.publish("user.alice")
	c := a.join(t, grant(t, nil), "cursor=s1.0")
	for i := range 2001 {
		if m := c.next(); seqOf(t, m) != uint64(i+1) {
			t.Fatalf("got %v, want %d", m, i+1)
		}
		if waiting := a.hub.Stats().Outbox; waiting > 3*pullBytes {
			t.Fatalf("%d bytes wait", waiting)
		}
	}
	if m := c.next(); m["complete"] != true || m["replayed"] != 2001.0 {
		t.Errorf("got %v", m)
	}
}

// TestAheadOfItsLoop: a loop that is behind never gets what nobody on it wanted
// when it came. Who comes there with a place that is ahead of the loop has it
// from the ring.
func TestAheadOfItsLoop(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.Loops = 2 }) // the other one accepts
	first := a.join(t, grant(t, map[string]any{"teams": "blue"}), "")
	l := a.hub.homeOf("alice")
	neighbour := "bob"
	for i := 0; a.hub.homeOf(neighbour) != l; i++ {
		neighbour = fmt.Sprint("bob", i)
	}
	busy, held := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	defer release()
	// Held among its events, so that the next turn begins with the admission.
	l.box.mark(&delivery{mark: func(*loop) { close(busy); <-held }})
	l.poller.Wake()
	<-busy
	a.publish("user.alice")           // waits for the loop
	a.publish("team.red", "team.red") // nobody here is of that team
	done := make(chan *client)
	go func() { done <- a.join(t, grant(t, map[string]any{"sub": neighbour}), "cursor=s1.2") }()
	// The admission passes the events: it is met by a loop that has none of them.
	eventually(t, "it waits at the loop", func() bool {
		l.box.mu.Lock()
		defer l.box.mu.Unlock()
		return len(l.box.calls) > 0
	})
	release()
	c := <-done
	if m := c.next(); m["type"] != "event" || seqOf(t, m) != 3 {
		t.Fatalf("got %v", m)
	}
	if m := c.next(); m["type"] != "resumed" || m["complete"] != true || seqOf(t, m) != 3 {
		t.Errorf("got %v", m)
	}
	if got := first.events(1); got[0] != 1 {
		t.Errorf("who was here got %v", got)
	}
}

// TestMissedByTheMailbox: what a loop that was busy had no room for it gets
// from the ring.
func TestMissedByTheMailbox(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.Loops, c.RingBytes = 1, 64<<20 })
	c := a.join(t, grant(t, nil), "")
	l := a.hub.loops[0]
	l.box.limit = 40 * deliveryCost
	busy, release := make(chan struct{}), make(chan struct{})
	l.post(message{do: func(*loop) { close(busy); <-release }})
	<-busy
	for range 300 {
		a.publish("user.alice", "other")
	}
	if !l.box.missing() {
		t.Error("the mailbox had room for all")
	}
	close(release)
	got := c.events(300)
	if want := a.want(0, "user.alice"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	a.publish("user.alice")
	if got := c.events(1); got[0] != 601 {
		t.Errorf("got %v", got)
	}
	eventually(t, "the loop has caught up", func() bool { return !l.box.missing() })
	if m := c.expect(`{"type":"ping","ref":"1"}`, "pong 1"); seqOf(t, m) != 601 {
		t.Errorf("the pong is %v", m)
	}
	if n := a.hub.Stats().Drops["loop_behind"]; n != 0 {
		t.Errorf("%d events were dropped", n)
	}
}

// TestFromTheStart: what the stream has is all that was asked for, however much
// it let go before.
func TestFromTheStart(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.Loops, c.RingBytes = 1, 8<<10 })
	for range 100 {
		a.publish("rooms.1")
	}
	a.mu.Lock()
	a.first = 30
	a.mu.Unlock()
	c := a.join(t, grant(t, may("rooms.*")), "")
	c.say(`{"type":"subscribe","ref":"1","subject":"rooms.1","from":"start"}`)
	c.expect("", "subscribed rooms.1 1")
	if got := c.events(71); got[0] != 30 || got[70] != 100 {
		t.Errorf("got %v", got)
	}
	if m := c.next(); m["type"] != "resumed" || m["complete"] != true || m["replayed"] != 71.0 {
		t.Errorf("told %v", m)
	}
	c.say(`{"type":"subscribe","ref":"2","subject":"rooms.1","cursor":"s1.0"}`)
	c.expect("", "subscribed rooms.1 2")
	c.events(71)
	if m := c.next(); m["complete"] != false {
		t.Errorf("a place before what is left: %v", m)
	}
}

// TestReplayEndsFull: the word that ends a replay is not what makes its client
// too slow.
func TestReplayEndsFull(t *testing.T) {
	h := readerHub(t)
	h.cfg.OutboxBytes = 100
	l, id := enrollUser(h, "alice", time.Now().Add(time.Hour).Unix())
	defer l.discard(id)
	s := l.slots.at(id)
	tr := l.trafficOf(id, s)
	l.enqueue(id, tr, segment{frames: make([]byte, 1000)})
	tr.full = true
	l.resumed(id, s, &api.Resumed{Complete: true, Cursor: "s1.1"})
	if s.state != stateOpen || len(tr.out) != 2 {
		t.Errorf("the session is in state %d, and %d things wait for it", s.state, len(tr.out))
	}
	tr.full = false
}

// Of what a session may not have any more nothing follows the notice, however
// much of the past is under way.
func TestReplayEndsWithItsSubject(t *testing.T) {
	for name, test := range map[string]struct {
		query, before, end string
	}{
		"replay of a held subject, renewal":     {"subject=rooms.1", `{"type":"subscribe","ref":"a","subject":"rooms.1","from":"start"}`, "renew"},
		"replay of a held subject, unsubscribe": {"subject=rooms.1", `{"type":"subscribe","ref":"a","subject":"rooms.1","from":"start"}`, "unsubscribe"},
		"replay of a new subject, unsubscribe":  {"", `{"type":"subscribe","ref":"a","subject":"rooms.1","from":"start"}`, "unsubscribe"},
		"return with a cursor, unsubscribe":     {"subject=rooms.1&cursor=s1.0", "", "unsubscribe"},
		"return with a cursor, renewal without": {"subject=rooms.1&cursor=s1.0", "", "renew"},
	} {
		t.Run(name, func(t *testing.T) {
			a := storedHub(t, func(c *Config) { c.RingBytes, c.RingAge = 64<<10, 0 })
			a.publish(slices.Repeat([]string{"rooms.1"}, 3000)...)
			c := a.join(t, grant(t, may("rooms.1")), test.query)
			if test.before != "" {
				c.say(test.before)
			}
			if test.end == "renew" {
				c.say(renew(grant(t, nil), "r"))
			} else {
				c.say(`{"type":"unsubscribe","ref":"u","subject":"rooms.1"}`)
			}
			c.say(`{"type":"ping","ref":"end"}`)
			gone, after := false, 0
			for pongs := 0; pongs < 20; {
				switch m := c.next(); {
				case m["type"] == "unsubscribed":
					gone = true
				case m["type"] == "event" && gone:
					after++
				case m["type"] == "pong":
					if pongs++; !gone {
						pongs = 0
					}
					c.say(`{"type":"ping","ref":"end"}`)
				}
			}
			if after > 0 {
				t.Errorf("%d events came after the subject had gone", after)
			}
		})
	}
}
