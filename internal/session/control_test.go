package session

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/api"
	"pushgate/internal/auth"
)

var testSecret = []byte(strings.Repeat("s", 32))

// tokenHub is a hub with real tokens: verifier is what checks them.
func tokenHub(t testing.TB, change func(*Config)) (h *testHub, verifier *auth.Verifier) {
	t.Helper()
	templates := []string{"user.{sub}", "team.{teams}", "broadcast"}
	verifier, err := auth.New(auth.Options{Leeway: 30 * time.Second, CacheBytes: 1 << 20, Issuers: []auth.Issuer{{Secret: testSecret, Subscriptions: templates}}})
	if err != nil {
		t.Fatal(err)
	}
	h = startHub(t, func(c *Config) {
		c.Verifier, c.Subscriptions = verifier, map[string][]string{"": templates}
		if change != nil {
			change(c)
		}
	})
	return h, verifier
}

// grant makes a token: of alice for an hour, in team red, unless claims say
// otherwise.
func grant(t testing.TB, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"sub": "alice", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "teams": "red"}
	for k, v := range claims {
		all[k] = v
	}
	token, err := auth.Mint(testSecret, all)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func may(patterns ...string) map[string]any { return map[string]any{"subscribe": patterns} }

// expect asks and checks the answer's fields, written "type subject code ref".
func (c *client) expect(say, want string) map[string]any {
	c.tb.Helper()
	if say != "" {
		c.say(say)
	}
	got := c.next()
	var fields []string
	for _, name := range []string{"type", "subject", "code", "ref"} {
		if v, ok := got[name]; ok {
			fields = append(fields, fmt.Sprint(v))
		}
	}
	if have := strings.Join(fields, " "); have != want {
		c.tb.Errorf("%s is answered %v, want %s", say, got, want)
	}
	return got
}

func TestSubscribe(t *testing.T) {
	h, _ := tokenHub(t, func(c *Config) { c.Subjects = 6 })
	c := h.dial(t, grant(t, may("rooms.*", "news.>", "!rooms.secret")))
	c.expect(`{"type":"subscribe","ref":"1","subject":"rooms.1"}`, "subscribed rooms.1 1")
	c.expect(`{"type":"subscribe","ref":"2","subject":"rooms.1"}`, "subscribed rooms.1 2")
	c.expect(`{"type":"subscribe","ref":"3","subject":"rooms.secret"}`, "error forbidden 3")
	c.expect(`{"type":"subscribe","ref":"4","subject":"rooms.*"}`, "error forbidden 4")
	c.expect(`{"type":"subscribe","ref":"5","subject":"news.*.x"}`, "subscribed news.*.x 5")
	c.expect(`{"type":"subscribe","ref":"6","subject":"other"}`, "error forbidden 6")
	c.expect(`{"type":"subscribe","ref":"7","subject":"user.bob"}`, "error forbidden 7")
	c.expect(`{"type":"subscribe","ref":"8","subject":"user.alice"}`, "subscribed user.alice 8")
	c.expect(`{"type":"subscribe","ref":"9","subject":"rooms.2","from":"last"}`, "error unavailable 9")
	c.expect(`{"type":"subscribe","ref":"10","subject":"news.>"}`, "subscribed news.> 10")
	c.expect(`{"type":"subscribe","ref":"11","subject":"rooms.3"}`, "error limit 11")
	c.expect(`{"type":"subscribe","ref":"12","subject":"a..b"}`, "error bad_request 12")
	// One event for two subscriptions comes once.
	h.Deliver([]api.Event{event("news.a.x", `1`), event("rooms.secret", `2`), event("rooms.1", `3`)})
	c.expect("", "event news.a.x")
	c.expect("", "event rooms.1")
	c.expect(`{"type":"unsubscribe","ref":"13","subject":"rooms.1"}`, "unsubscribed rooms.1 13")
	c.expect(`{"type":"unsubscribe","ref":"14","subject":"rooms.1"}`, "error bad_request 14")
	c.expect(`{"type":"subscribe","ref":"15","subject":"rooms.3"}`, "subscribed rooms.3 15")
	h.Deliver([]api.Event{event("rooms.1", `4`), event("rooms.3", `5`)})
	c.expect("", "event rooms.3")
	c.expect(`{"type":"ack","ref":"16","cursor":"c"}`, "error unavailable 16")
}

func TestNoGrantsNoSubscribing(t *testing.T) {
	h, _ := tokenHub(t, nil)
	c := h.dial(t, grant(t, nil))
	c.expect(`{"type":"subscribe","ref":"1","subject":"rooms.1"}`, "error forbidden 1")
	c.expect(`{"type":"subscribe","ref":"2","subject":">"}`, "error forbidden 2")
	c.expect(`{"type":"subscribe","ref":"3","subject":"user.*"}`, "error forbidden 3")
	c.expect(`{"type":"unsubscribe","ref":"4","subject":"broadcast"}`, "unsubscribed broadcast 4")
	h.Deliver([]api.Event{event("broadcast", `1`), event("user.alice", `2`)})
	c.expect("", "event user.alice")
	c.expect(`{"type":"subscribe","ref":"5","subject":"broadcast"}`, "subscribed broadcast 5")
	h.Deliver([]api.Event{event("broadcast", `3`)})
	c.expect("", "event broadcast")
}

func subjects(m map[string]any) string {
	var all []string
	for _, s := range m["subjects"].([]any) {
		all = append(all, s.(string))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func renew(token, ref string) string {
	return fmt.Sprintf(`{"type":"renew","ref":%q,"token":%q}`, ref, token)
}

func TestRenew(t *testing.T) {
	h, verifier := tokenHub(t, nil)
	c := h.dial(t, grant(t, map[string]any{"teams": []string{"red", "blue"}, "subscribe": []string{"rooms.*", "news.>"}}))
	c.expect(`{"type":"subscribe","ref":"1","subject":"rooms.1"}`, "subscribed rooms.1 1")
	c.expect(`{"type":"subscribe","ref":"2","subject":"news.>"}`, "subscribed news.> 2")
	c.expect(`{"type":"unsubscribe","ref":"3","subject":"broadcast"}`, "unsubscribed broadcast 3")

	// Another team, no news any more; what was given up stays so.
	until := time.Now().Add(2 * time.Hour).Unix()
	got := c.expect(renew(grant(t, map[string]any{"teams": []string{"blue", "green"}, "subscribe": []string{"rooms.*"}, "exp": until}), "4"), "renewed 4")
	if want := "rooms.1 team.blue team.green user.alice"; subjects(got) != want {
		t.Errorf("it receives %s, want %s", subjects(got), want)
	}
	if at, err := time.Parse(time.RFC3339, got["expires"].(string)); err != nil || at.Unix() != until {
		t.Errorf("it expires %v, %v", got["expires"], err)
	}
	lost := []string{c.next()["subject"].(string), c.next()["subject"].(string)}
	if slices.Sort(lost); !slices.Equal(lost, []string{"news.>", "team.red"}) {
		t.Errorf("lost are %v", lost)
	}
	h.Deliver([]api.Event{event("news.a", `1`), event("team.red", `1`), event("broadcast", `1`), event("team.green", `2`)})
	c.expect("", "event team.green")
	c.expect(`{"type":"subscribe","ref":"5","subject":"news.a"}`, "error forbidden 5")
	c.expect(`{"type":"subscribe","ref":"6","subject":"broadcast"}`, "subscribed broadcast 6")

	// A grant that becomes part of the token, and one that only the claim still
	// covers.
	got = c.expect(renew(grant(t, map[string]any{"teams": "green", "subscribe": []string{"team.*", "rooms.1"}}), "7"), "renewed 7")
	if want := "broadcast rooms.1 team.blue team.green user.alice"; subjects(got) != want {
		t.Errorf("it receives %s, want %s", subjects(got), want)
	}

	for name, token := range map[string]string{
		"nonsense": "a.b.c", "expired": grant(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"unfit": grant(t, map[string]any{"teams": "*"}),
	} {
		if got := c.expect(renew(token, name), "error forbidden "+name); got["message"] == "" {
			t.Error("no message")
		}
	}
	verifier.Revoke("alice", time.Now().Add(-time.Minute).Unix())
	c.expect(renew(grant(t, map[string]any{"iat": time.Now().Add(-time.Hour).Unix()}), "8"), "error forbidden 8")
	c.expect(`{"type":"ping","ref":"9"}`, "pong 9")
	c.say(renew(grant(t, map[string]any{"sub": "bob"}), "10"))
	if code := c.ends(); code != 4002 {
		t.Errorf("renewed as somebody else it ends with %d", code)
	}
}

func TestRenewChangesTheEnd(t *testing.T) {
	clock := newStillClock()
	h, _ := tokenHub(t, func(c *Config) { c.Now, c.Heartbeat = clock.now, 24*time.Hour })
	in := func(d time.Duration) map[string]any { return map[string]any{"exp": clock.now().Add(d).Unix()} }
	const soon, late = 10 * time.Minute, 24 * time.Hour
	longer, shorter := h.dial(t, grant(t, in(soon))), h.dial(t, grant(t, in(late)))
	longer.expect(renew(grant(t, in(late)), "1"), "renewed 1")
	shorter.expect(renew(grant(t, in(soon)), "1"), "renewed 1")
	clock.move(h, soon-time.Second)
	shorter.expect(`{"type":"ping","ref":"2"}`, "pong 2")
	clock.move(h, time.Second)
	if code := shorter.ends(); code != 4200 {
		t.Errorf("it ends with %d", code)
	}
	// The first token of the other has expired by now, too.
	longer.expect(`{"type":"ping","ref":"2"}`, "pong 2")
}

func TestDisconnect(t *testing.T) {
	h, _ := tokenHub(t, nil)
	alice := []*client{h.dial(t, grant(t, nil)), h.dial(t, grant(t, nil))}
	bob := h.dial(t, grant(t, map[string]any{"sub": "bob"}))
	if n := h.DisconnectUser("carol"); n != 0 {
		t.Errorf("%d sessions of nobody", n)
	}
	if n := h.DisconnectUser("alice"); n != 2 {
		t.Errorf("%d sessions of alice", n)
	}
	for _, c := range alice {
		if code := c.ends(); code != 4000 {
			t.Errorf("it ends with %d", code)
		}
	}
	session := bob.welcome["session"].(string)
	for _, id := range []string{"", "x", session[:21], strings.Repeat("A", 22), session + "A", alice[0].welcome["session"].(string)} {
		if n := h.DisconnectSession(id); n != 0 {
			t.Errorf("%q ends %d sessions", id, n)
		}
	}
	bob.expect(`{"type":"ping","ref":"1"}`, "pong 1")
	if n := h.DisconnectSession(session); n != 1 {
		t.Errorf("%d sessions are bob's", n)
	}
	if code := bob.ends(); code != 4000 {
		t.Errorf("it ends with %d", code)
	}
	if n := h.Stats().Closes["disconnected"]; n != 3 {
		t.Errorf("%d are counted", n)
	}
}

func TestRevoke(t *testing.T) {
	h, _ := tokenHub(t, nil)
	now := time.Now().Unix()
	issued := func(at any) *client { return h.dial(t, grant(t, map[string]any{"iat": at})) }
	var old []*client
	for i := range 2*endSlice + 10 {
		old = append(old, issued(now-10-int64(i)))
	}
	young := issued(now)
	if n := h.Revoke("alice", now); n != len(old) {
		t.Errorf("%d sessions are hit", n)
	}
	for _, c := range old {
		if code := c.ends(); code != 4000 {
			t.Errorf("it ends with %d", code)
		}
	}
	young.expect(`{"type":"ping","ref":"1"}`, "pong 1")
	if n := h.Stats().Closes["revoked"]; n != int64(len(old)) {
		t.Errorf("%d are counted", n)
	}
}

// TestNoHandshakeSlipsThroughARevocation verifies and revokes at the same
// time: whoever was verified before is not let in afterwards.
func TestNoHandshakeSlipsThroughARevocation(t *testing.T) {
	h, verifier := tokenHub(t, func(c *Config) { c.Interest = slowInterest{} })
	for i := range 20 {
		user := fmt.Sprint("u", i) // whom nobody has revoked yet
		token := grant(t, map[string]any{"sub": user, "iat": time.Now().Add(-time.Minute).Unix()})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				c := h.connect(t)
				c.write(upgradeHead(token))
				// A close frame, or a refusal.
				if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s is left", user)
				}
				_ = c.Close()
			})
		}
		all.Go(func() {
			verifier.Revoke(user, time.Now().Unix())
			h.Revoke(user, time.Now().Unix())
		})
		all.Wait()
		eventually(t, "nobody is left", func() bool { return h.open.Load() == 0 })
	}
}

// TestRevokedWhileNATSIsAwaited: whose token was good, and is revoked before his
// subjects are there, is refused.
func TestRevokedWhileNATSIsAwaited(t *testing.T) {
	gate := &gatedInterest{prefix: "user."}
	h, verifier := tokenHub(t, func(c *Config) { still(c); c.Interest = gate })
	c := h.connect(t)
	c.write(upgradeHead(grant(t, map[string]any{"iat": time.Now().Add(-time.Minute).Unix()})))
	eventually(t, "it waits for NATS", func() bool { return gate.waiting() == 1 })
	verifier.Revoke("alice", time.Now().Unix())
	h.Revoke("alice", time.Now().Unix())
	gate.release()
	if _, resp, body := c.answer(t); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("answered %d %s", resp.StatusCode, body)
	}
	eventually(t, "nobody is left", func() bool { return h.open.Load() == 0 })
}

// slowInterest answers a little later, from another goroutine.
type slowInterest struct{}

func (slowInterest) Acquire(_ []string, ready func()) { time.AfterFunc(time.Millisecond, ready) }
func (slowInterest) Release([]string)                 {}

// countingInterest counts what is held, as NATS would.
type countingInterest struct {
	mu   sync.Mutex
	held map[string]int
}

func (i *countingInterest) Acquire(subjects []string, ready func()) {
	i.change(subjects, 1)
	go ready()
}

func (i *countingInterest) Release(subjects []string) { i.change(subjects, -1) }

func (i *countingInterest) change(subjects []string, by int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range subjects {
		if i.held[s] += by; i.held[s] == 0 {
			delete(i.held, s)
		}
	}
}

func (i *countingInterest) String() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return fmt.Sprint(i.held)
}

// TestInterestFollowsSubscriptions: whatever sessions do, what is held at NATS
// is what they have, and nothing when they are gone.
func TestInterestFollowsSubscriptions(t *testing.T) {
	in := &countingInterest{held: map[string]int{}}
	h, _ := tokenHub(t, func(c *Config) { c.Interest = in })
	rapid.Check(t, func(rt *rapid.T) {
		c := h.dial(t, grant(t, may("rooms.*")))
		have := map[string]int{}
		for i := range rapid.IntRange(0, 8).Draw(rt, "steps") {
			subject := rapid.SampledFrom([]string{"rooms.1", "rooms.2", "rooms.*", "team.red", "broadcast", "other"}).Draw(rt, "subject")
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				team := rapid.SampledFrom([]string{"red", "blue"}).Draw(rt, "team")
				grants := rapid.SampledFrom([][]string{{"rooms.*"}, {"rooms.1"}, {}}).Draw(rt, "grants")
				c.say(renew(grant(t, map[string]any{"teams": team, "subscribe": grants}), fmt.Sprint(i)))
			case 1:
				c.say(fmt.Sprintf(`{"type":"unsubscribe","subject":%q}`, subject))
			default:
				c.say(fmt.Sprintf(`{"type":"subscribe","subject":%q}`, subject))
			}
		}
		// The answer to a last renewal says what the session has.
		c.say(renew(grant(t, may("rooms.*")), "last"))
		for again := false; ; {
			m := c.next()
			if m["ref"] == "last" && m["type"] == "error" {
				again = true // one at a time: when the one before is through
				continue
			}
			if again && m["type"] == "renewed" {
				again = false
				c.say(renew(grant(t, may("rooms.*")), "last"))
				continue
			}
			if m["ref"] == "last" {
				clear(have)
				for _, s := range m["subjects"].([]any) {
					have[s.(string)] = 1
				}
				break
			}
		}
		// A subscribe may still be on its way: its answer comes later.
		eventually(t, "held is what it has", func() bool {
			c.say(`{"type":"ping","ref":"here"}`)
			for m := c.next(); m["ref"] != "here"; m = c.next() {
				switch m["type"] {
				case "subscribed":
					have[m["subject"].(string)] = 1
				case "unsubscribed":
					delete(have, m["subject"].(string))
				}
			}
			return in.String() == fmt.Sprint(have)
		})
		_ = c.CloseNow()
		eventually(t, "nothing is held", func() bool { return in.String() == "map[]" })
	})
	eventually(t, "nobody is left", func() bool { return h.open.Load() == 0 })
	for _, l := range h.loops {
		h.call(l, func(l *loop) {
			if len(l.grants) != 0 || len(l.freeExtras) != len(l.extras)-1 || l.subjects.count != 0 {
				t.Error("grants, extras or subjects are left")
			}
		})
	}
	if !noRoaming(h.Hub) {
		t.Error("roaming is counted")
	}
}

func TestSubjectsInTheURL(t *testing.T) {
	h, _ := tokenHub(t, func(c *Config) { still(c); c.Subjects = 5 })
	token := grant(t, may("rooms.*", "!rooms.secret"))
	for query, want := range map[string]int{
		"subject=rooms.1": 101,
		"subject=rooms.1&subject=rooms.1&subject=user.alice": 101,
		"subject=rooms.1&subject=rooms.2":                    101,
		"subject=rooms.1&subject=rooms.2&subject=rooms.3":    403, // six are too many
		"subject=rooms.*":               403, // meets a denial
		"subject=rooms.secret":          403,
		"subject=rooms.1&subject=other": 403,
		"subject=user.*":                403,
		"subject=":                      400,
		"subject=a..b":                  400,
		"subject=rooms.1%00":            400,
		"subject=rooms.1&subject=rooms.2&subject=team.red": 101,
		"subject=%3E":                                         403,
		"subject=rooms.%C3%A9":                                101,
		"subject=rooms.1%0D%0ASet-Cookie":                     400,
		"subject=" + strings.Repeat("x", api.MaxSubject+1):    400,
		"subject=rooms.1&subject=rooms.2&subject=user.alice.": 400,
	} {
		head := strings.Replace(upgradeHead(token), "/v1/ws", "/v1/ws?"+query, 1)
		c := h.connect(t)
		c.write(head)
		status, err := c.r.ReadString('\n')
		if err != nil || !strings.HasPrefix(status, fmt.Sprintf("HTTP/1.1 %d ", want)) {
			t.Errorf("%s: %q, %v, want %d", query, status, err, want)
		}
	}
}

// gatedInterest keeps subjects of a prefix waiting until it is opened.
type gatedInterest struct {
	prefix string

	mu   sync.Mutex
	open bool
	held []func()
}

func (i *gatedInterest) Acquire(subjects []string, ready func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.open && slices.ContainsFunc(subjects, func(s string) bool { return strings.HasPrefix(s, i.prefix) }) {
		i.held = append(i.held, ready)
		return
	}
	go ready()
}

func (i *gatedInterest) Release([]string) {}

func (i *gatedInterest) waiting() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.held)
}

func (i *gatedInterest) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open = true
	for _, ready := range i.held {
		go ready()
	}
}

// What a client says of one subject takes effect in its order, also while NATS is
// still waited for.
func TestOrderOfOneSubject(t *testing.T) {
	gate := &gatedInterest{prefix: "rooms."}
	a := storedHub(t, func(c *Config) { c.Interest = gate })
	a.publish("rooms.1", "rooms.1")
	c := a.join(t, grant(t, may("rooms.*")), "")
	c.say(`{"type":"subscribe","ref":"1","subject":"rooms.1"}`)
	c.say(`{"type":"subscribe","ref":"2","subject":"rooms.1","from":"start"}`)
	c.say(`{"type":"unsubscribe","ref":"3","subject":"rooms.1"}`)
	c.say(`{"type":"subscribe","ref":"4","subject":"rooms.2"}`)
	c.say(`{"type":"subscribe","ref":"5","subject":"rooms.1"}`)
	c.expect(`{"type":"ping","ref":"6"}`, "pong 6")
	if n := gate.waiting(); n != 2 {
		t.Errorf("%d subjects are asked for", n)
	}
	gate.release()
	var got []string
	for len(got) < 5 {
		m := c.next()
		if ref, _ := m["ref"].(string); m["type"] != "event" && ref != "4" { // those come as they come
			got = append(got, fmt.Sprint(m["type"], " ", ref))
		}
	}
	if want := "subscribed 1, subscribed 2, resumed 2, unsubscribed 3, subscribed 5"; strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// What a renewal brings counts from when it is asked for: the client cannot
// fill the session beyond what it holds while NATS is waited for, and nobody
// gets what it had when its place is another's.
func TestRenewalLeavesNoRoomTwice(t *testing.T) {
	gate := &gatedInterest{prefix: "team.n"}
	h, _ := tokenHub(t, func(c *Config) { c.Loops, c.Interest, c.Subjects = 1, gate, maxSubjects })
	c := h.dial(t, grant(t, may(">")))
	c.SetReadLimit(1 << 20)
	for i := range 190 {
		c.expect(fmt.Sprintf(`{"type":"subscribe","ref":"x","subject":"own.%d"}`, i), fmt.Sprintf("subscribed own.%d x", i))
	}
	teams := []string{"red"}
	for i := range 60 {
		teams = append(teams, fmt.Sprint("n", i))
	}
	c.say(renew(grant(t, map[string]any{"teams": teams, "subscribe": []string{">"}}), "r"))
	eventually(t, "the renewal waits for NATS", func() bool { return gate.waiting() == 1 })
	had := 3 + 190 + 60
	for i := range 60 {
		want := fmt.Sprintf("subscribed more.%d x", i)
		if had >= maxSubjects {
			want = "error limit x"
		} else {
			had++
		}
		c.expect(fmt.Sprintf(`{"type":"subscribe","ref":"x","subject":"more.%d"}`, i), want)
	}
	gate.release()
	renewed := c.next()
	if got := renewed["subjects"].([]any); len(got) != maxSubjects {
		t.Errorf("renewed with %d subjects, want %d", len(got), maxSubjects)
	}
	c.expect(`{"type":"ping"}`, "pong")
	_ = c.CloseNow()
	eventually(t, "alice is gone", func() bool { return h.open.Load() == 0 })
	bob := h.dial(t, grant(t, map[string]any{"sub": "bob", "teams": "blue"}))
	h.Deliver([]api.Event{event("user.alice", `1`), event("team.red", `2`), event("own.1", `3`), event("broadcast", `4`)})
	if m := bob.next(); m["subject"] != "broadcast" {
		t.Errorf("bob gets %v", m)
	}
}
