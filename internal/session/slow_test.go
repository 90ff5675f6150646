package session

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"pushgate/api"
	"pushgate/internal/auth"
)

// frozen is a client that does not read until it is told to.
type frozen struct {
	net.Conn
	tb testing.TB
}

func (h *testHub) frozen(tb testing.TB, token string) *frozen {
	tb.Helper()
	dialer := net.Dialer{Control: smallReceiveBuffer}
	conn, err := dialer.Dial("tcp", h.addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	// Of all that the test does with it.
	if err := conn.SetDeadline(time.Now().Add(4 * patience)); err != nil {
		tb.Fatal(err)
	}
	if _, err := conn.Write([]byte(upgradeHead(token))); err != nil {
		tb.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		tb.Fatal(resp, err)
	}
	f := &frozen{bufferedConn{conn, r}, tb}
	if m := f.next(); m["type"] != "welcome" {
		tb.Fatal(m)
	}
	return f
}

// bufferedConn reads what a reader has taken already first.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// next reads one frame; the end of the session is {"type":"closed","code":…}.
func (f *frozen) next() map[string]any {
	f.tb.Helper()
	b, err := wsutil.ReadServerText(f.Conn)
	if closed, ok := err.(wsutil.ClosedError); ok {
		return map[string]any{"type": "closed", "code": closed.Code}
	}
	if err != nil {
		f.tb.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		f.tb.Fatal(err)
	}
	return m
}

// numbered is an event of some size with a number.
func numbered(subject string, n, size int) api.Event {
	return event(subject, fmt.Sprintf(`{"n":%d,"fill":%q}`, n, strings.Repeat("x", size)))
}

func number(m map[string]any) int { return int(m["data"].(map[string]any)["n"].(float64)) }

// rules are policies of some subjects. The clock stands: who does not read is not
// taken for dead, and who is ended has all the time to read why.
func rules(c *Config) {
	c.Now = newStillClock().now
	c.OutboxBytes = 64 << 10
	c.Slow = []SlowRule{{"user.drop", PolicyDropOldest}, {"user.latest", PolicyLatest}, {"*.many", PolicyDropOldest}}
}

// TestDropOldest: who reads too slowly gets what is newest, in order, and is
// told in front of it what is missing, to the number.
func TestDropOldest(t *testing.T) {
	h := startHub(t, rules)
	f, quick := h.frozen(t, "drop"), h.dial(t, "drop")
	const events = 2000
	for i := range events {
		h.Deliver([]api.Event{numbered("user.drop", i, 8000)}) // more than any kernel takes
		if got := quick.next(); number(got) != i {
			t.Fatalf("the quick one got %v", got)
		}
	}
	last, dropped, told := -1, 0, 0
	for last < events-1 {
		switch m := f.next(); m["type"] {
		case "event":
			if n := number(m); n != last+1+told {
				t.Fatalf("%d comes behind %d and %d dropped", n, last, told)
			}
			last, told = number(m), 0
		case "dropped":
			if m["subject"] != "user.drop" {
				t.Errorf("got %v", m)
			}
			// When it is told, more may be dropped before it reads that.
			n := int(m["count"].(float64))
			told, dropped = told+n, dropped+n
		default:
			t.Fatalf("got %v", m)
		}
	}
	if n := h.Stats().Drops[DropSlow.String()]; dropped == 0 || n != int64(dropped) {
		t.Errorf("%d are dropped, %d counted", dropped, n)
	}
	if h.Stats().Sessions != 2 {
		t.Error("somebody was ended")
	}
}

// TestLatest: of state only the newest waits, of each key.
func TestLatest(t *testing.T) {
	h := startHub(t, rules)
	f := h.frozen(t, "latest")
	const events = 3000
	for i := range events {
		e := numbered("user.latest", i, 8000) // more than any kernel takes
		e.Collapse = fmt.Sprint("key", i%3)
		h.Deliver([]api.Event{e})
	}
	seen := map[int]int{} // by key
	for got := 0; ; got++ {
		m := f.next()
		if m["type"] != "event" {
			t.Fatalf("got %v", m)
		}
		n := number(m)
		if old, ok := seen[n%3]; ok && old > n {
			t.Errorf("%d comes behind %d", n, old)
		}
		if seen[n%3] = n; n == events-1 {
			if got > events/2 {
				t.Errorf("%d were sent: nothing was replaced", got)
			}
			break
		}
	}
	eventually(t, "all three keys are at their newest", func() bool {
		if len(seen) == 3 && seen[0] >= events-3 && seen[1] >= events-3 && seen[2] >= events-3 {
			return true
		}
		m := f.next()
		seen[number(m)%3] = number(m)
		return false
	})
	if h.Stats().Drops[DropCollapsed.String()] == 0 || h.Stats().Drops[DropSlow.String()] != 0 {
		t.Errorf("%v", h.Stats().Drops)
	}
}

// TestDisconnectBesideDrop: what may not be dropped ends the session when
// nothing that may be makes room for it.
func TestDisconnectBesideDrop(t *testing.T) {
	h := startHub(t, rules)
	f := h.frozen(t, "alice")
	n := 0
	eventually(t, "it is ended", func() bool {
		for range 20 {
			h.Deliver([]api.Event{numbered("user.alice", n, 8000)})
			n++
		}
		return h.Stats().Closes[api.ReasonSlow.String()] == 1
	})
	for {
		m := f.next()
		if m["type"] == "closed" {
			if m["code"] != ws.StatusCode(4100) {
				t.Errorf("got %v", m)
			}
			return
		}
	}
}

// TestDropInBroadcast: the same to many at once, in slices.
func TestDropInBroadcast(t *testing.T) {
	h := startHub(t, func(c *Config) {
		rules(c)
		c.Verifier = manyTokens{}
	})
	f := h.frozen(t, "slow")
	for i := range 300 {
		h.dialRaw(t, fmt.Sprint("u", i)) // they read nothing either, but have room
	}
	const events = 400
	for i := range events {
		h.Deliver([]api.Event{numbered("all.many", i, 1000)})
	}
	last, told := -1, 0
	for last < events-1 {
		switch m := f.next(); m["type"] {
		case "event":
			if n := number(m); n != last+1+told {
				t.Fatalf("%d comes behind %d and %d dropped", n, last, told)
			}
			last, told = number(m), 0
		case "dropped":
			told += int(m["count"].(float64))
		default:
			t.Fatalf("got %v", m)
		}
	}
}

type manyTokens struct{ plainTokens }

func (manyTokens) Verify(token string) (auth.Identity, error) {
	return auth.Identity{User: token, Subjects: []string{"all.many"}, Expires: time.Now().Add(time.Hour).Unix()}, nil
}

// TestBudget: when all outboxes together hold too much, those that hold most go,
// with 4102, and no more than need to.
func TestBudget(t *testing.T) {
	h := startHub(t, func(c *Config) { c.Heartbeat, c.OutboxBytes, c.OutboxesBytes = time.Hour, 64<<20, 2<<20 })
	var all []*frozen
	for i := range 8 {
		all = append(all, h.frozen(t, fmt.Sprint("u", i)))
	}
	for i := range 700 {
		for user := range all {
			if user == 0 || i < 100 {
				h.Deliver([]api.Event{numbered(fmt.Sprint("user.u", user), i, 1000)})
			}
		}
		if held := h.heldAll(); held > 3<<20 {
			t.Fatalf("%d bytes are held", held)
		}
	}
	// One after the other: to a loop that comes late, many would come at once, and
	// everybody would be too slow.
	idle := func() bool {
		return !slices.ContainsFunc(h.loops, func(l *loop) bool { return l.box.count.Load() > 0 })
	}
	for n := 0; n < 2000 && h.Stats().Closes[api.ReasonOverload.String()] == 0; n++ {
		eventually(t, "the loops are through with the one before", idle)
		h.Deliver([]api.Event{numbered("broadcast", 0, 30000)})
	}
	eventually(t, "somebody is shed", func() bool { return h.Stats().Closes[api.ReasonOverload.String()] > 0 })
	eventually(t, "what is held is within the budget", func() bool { return h.heldAll() <= 2<<20 })
	if n := h.Stats().Sessions; n == 0 {
		t.Error("everybody was shed")
	}
}

// TestStrain: short of memory nobody is let in, and the slowest go.
func TestStrain(t *testing.T) {
	// Who is ended has all the time to read why.
	h := startHub(t, func(c *Config) { c.Now, c.OutboxBytes = newStillClock().now, 64<<20 })
	slow, quick := h.frozen(t, "alice"), h.dial(t, "bob")
	for i := range 600 {
		h.Deliver([]api.Event{numbered("user.alice", i, 30000)}) // more than any kernel takes
	}
	eventually(t, "its socket is full", func() bool {
		st := h.Stats()
		return st.Deliveries == 600 && st.Stalled == 1 // for good, not in between
	})
	h.Strain(true)
	c := h.connect(t)
	c.write(upgradeHead("carol"))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatal(resp, err)
	}
	h.Relieve(100 << 10)
	eventually(t, "the slow one is ended", func() bool { return h.Stats().Closes[api.ReasonOverload.String()] == 1 })
	for m := slow.next(); ; m = slow.next() {
		if m["type"] == "closed" {
			if m["code"] != ws.StatusCode(4102) {
				t.Errorf("got %v", m)
			}
			break
		}
	}
	h.Relieve(1 << 30)
	h.Strain(false)
	h.Deliver([]api.Event{event("user.bob", `"still here"`)})
	if got := quick.next()["data"]; got != "still here" {
		t.Errorf("got %v", got)
	}
	h.dial(t, "carol")
}

func TestReplaceOldest(t *testing.T) {
	h := startHub(t, func(c *Config) { c.SessionsPerUser, c.ReplaceOldest = 2, true })
	first, second := h.dial(t, "alice"), h.dial(t, "alice")
	h.dial(t, "bob")
	third := h.dial(t, "alice")
	if code := first.ends(); code != 4001 {
		t.Errorf("the oldest ends with %d", code)
	}
	h.Deliver([]api.Event{event("user.alice", "1")})
	for _, c := range []*client{second, third} {
		if got := c.next()["data"]; got != 1.0 {
			t.Errorf("got %v", got)
		}
	}
	if h.Stats().Sessions != 3 {
		t.Errorf("%d sessions", h.Stats().Sessions)
	}
}

func TestRetryAfterSpreads(t *testing.T) {
	now := time.Unix(1000, 0)
	most := func(r *returning, n int) time.Duration {
		longest := time.Duration(0)
		for range n {
			if d := r.retryAfter(now); d > longest {
				longest = d
			} else if d < time.Second {
				t.Fatalf("%s", d)
			}
		}
		return longest
	}
	if d := most(&returning{capacity: 100}, 50); d > leastSpread*time.Second {
		t.Errorf("a few come back within %s", d)
	}
	r := &returning{capacity: 100}
	if d := most(r, 2000); d < 20*time.Second || d > 40*time.Second {
		t.Errorf("2,000 at 100 a second come back within %s", d)
	}
	now = now.Add(time.Second)
	if d := most(r, 10); d <= leastSpread*time.Second {
		t.Errorf("those of the second before are forgotten: %s", d)
	}
	now = now.Add(time.Minute)
	if d := most(r, 10); d > leastSpread*time.Second {
		t.Errorf("a minute after %s", d)
	}
	if d := most(&returning{capacity: 1}, 10000); d > mostSpread*time.Second {
		t.Errorf("%s", d)
	}
}

// TestRebalance moves a share of the sessions, gently, and leaves the others.
func TestRebalance(t *testing.T) {
	h := startHub(t, nil)
	clients := make([]*client, 100)
	for i := range clients {
		clients[i] = h.dial(t, fmt.Sprint("u", i))
	}
	n, err := h.Rebalance(0.3, 500*time.Millisecond)
	if err != nil || n < 29 || n > 31 { // each loop rounds
		t.Fatalf("%d, %v", n, err)
	}
	eventually(t, "they are moved", func() bool { return h.Stats().Closes[api.ReasonDrain.String()] == int64(n) && !h.moving.Load() })
	h.Deliver([]api.Event{event("broadcast", `"still here"`)})
	stay := 0
	for _, c := range clients {
		switch m := c.next(); {
		case m["data"] == "still here":
			stay++
		case m["type"] != "drain" || c.ends() != 1001:
			t.Errorf("got %v", m)
		}
	}
	if stay != 100-n {
		t.Errorf("%d stayed, want %d", stay, 100-n)
	}
	h.dial(t, "new")
}

// TestOneRebalanceAtATime: a second one is refused as long as the first goes on,
// which the hub's end does not wait for.
func TestOneRebalanceAtATime(t *testing.T) {
	h := startHub(t, nil)
	for i := range 10 {
		h.dial(t, fmt.Sprint("u", i))
	}
	if n, err := h.Rebalance(1, time.Hour); err != nil || n != 10 {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := h.Rebalance(0.1, time.Hour); err != ErrMoving {
		t.Errorf("a second one at the same time: %d, %v", n, err)
	}
	h.Close()
	if h.moving.Load() {
		t.Error("the first one has outlived its hub")
	}
}
