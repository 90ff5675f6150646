package session

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushgate/api"
)

// TestHeadSize: 8 KiB beyond the token, to the byte, wherever the token is.
func TestHeadSize(t *testing.T) {
	h := secretHub(t, nil)
	long := secret + "alice." + strings.Repeat("x", 4000)
	for name, make := range map[string]func(pad string) string{
		"header": func(pad string) string { return wsHead("/v1/ws", "Authorization: Bearer "+long, origin, "A: "+pad) },
		"subprotocol": func(pad string) string {
			return wsHead("/v1/ws", "Sec-WebSocket-Protocol: pushgate.v1, bearer."+long, origin, "A: "+pad)
		},
		"query": func(pad string) string { return wsHead("/v1/ws?access_token="+long, origin, "A: "+pad) },
	} {
		room := headBytes + len(long) - len(make(""))
		if _, resp, body := h.ask(t, make(strings.Repeat("p", room))); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("%s: a head of 8 KiB beside its token gets %d %s", name, resp.StatusCode, body)
		}
		_, resp, body := h.ask(t, make(strings.Repeat("p", room+1)))
		refused(t, resp, body, api.RefusedHeadSize, "https://app.example")
	}
}

func TestSlowHead(t *testing.T) {
	t.Parallel()
	h := secretHub(t, nil)
	for name, start := range map[string]string{
		"nothing": "", "a line": "GET /v1/ws HTTP/1.1\r\n", "all but the end": strings.TrimSuffix(wsHead("/v1/ws", bearer), "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, resp, body := h.ask(t, start)
			refused(t, resp, body, api.RefusedSlowHead, "")
		})
	}
}

func TestFull(t *testing.T) {
	h := secretHub(t, func(c *Config) { c.Sessions = 1 })
	first, resp, _ := h.ask(t, wsHead("/v1/ws", bearer))
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the first gets %d", resp.StatusCode)
	}
	_, resp, body := h.ask(t, wsHead("/v1/ws?access_token="+secret+"bob", origin))
	refused(t, resp, body, api.RefusedFull, "https://app.example")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there is room again", func() bool { return h.open.Load() == 0 })
	if _, resp, body = h.ask(t, wsHead("/v1/ws?access_token="+secret+"bob")); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("the next gets %d %s", resp.StatusCode, body)
	}
}

func TestSessionsPerUser(t *testing.T) {
	h := secretHub(t, func(c *Config) { c.SessionsPerUser = 2 })
	for i, want := range []int{101, 101, 429} {
		_, resp, body := h.ask(t, wsHead("/v1/ws", bearer, origin))
		if resp.StatusCode != want {
			t.Fatalf("session %d gets %d %s", i, resp.StatusCode, body)
		}
		if want == 429 {
			refused(t, resp, body, api.RefusedRate, "https://app.example")
		}
	}
	if _, resp, body := h.ask(t, wsHead("/v1/ws?access_token="+secret+"bob")); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("another user gets %d %s", resp.StatusCode, body)
	}
	if n := h.open.Load(); n != 3 {
		t.Errorf("%d sessions are counted, want 3", n)
	}
}

func TestHandshakeRate(t *testing.T) {
	h := secretHub(t, func(c *Config) { c.HandshakesPerSecond = 1 })
	for i := 0; ; i++ {
		_, resp, body := h.ask(t, wsHead("/v1/ws", bearer, origin))
		if resp.StatusCode == http.StatusSwitchingProtocols && i < 1000 {
			continue
		}
		if i == 0 {
			t.Error("not even the first is served")
		}
		refused(t, resp, body, api.RefusedRate, "https://app.example")
		return
	}
}

func TestDrainingRefuses(t *testing.T) {
	h := secretHub(t, nil)
	c := h.connect(t)
	h.draining.Store(true)
	c.write(wsHead("/v1/ws", bearer, origin))
	_, resp, body := c.answer(t)
	refused(t, resp, body, api.RefusedDraining, "https://app.example")
}

func TestHalfOpen(t *testing.T) {
	clock := newStillClock() // those who wait have no deadline
	h := secretHub(t, func(c *Config) { c.Now, c.HalfOpen = clock.now, 2 })
	var waiting [2]*rawClient
	for i := range waiting {
		waiting[i] = h.connect(t)
	}
	eventually(t, "both are waited for", func() bool { return h.halfOpen.Load() == 2 })
	_, resp, body := h.ask(t, wsHead("/v1/ws", bearer))
	refused(t, resp, body, api.RefusedFull, "")
	for i, c := range waiting {
		c.write(wsHead("/v1/ws?access_token=" + secret + fmt.Sprint("u", i)))
		if _, resp, body := c.answer(t); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("one that was there first gets %d %s", resp.StatusCode, body)
		}
	}
	clock.move(h, refuseTicks*time.Second) // the one that was refused stays as long as it may
	eventually(t, "nobody is half-open", func() bool { return h.halfOpen.Load() == 0 && h.surplus.Load() == 0 })
}

// Those that are refused for being too many are waited for, to read why, but
// not without bound.
func TestSurplusIsBounded(t *testing.T) {
	// On one loop: of several that accept at the same time each may take one
	// more. The clock stands, or some would be gone before the last ones come.
	h := secretHub(t, func(c *Config) { c.Loops, c.Now, c.HalfOpen = 1, newStillClock().now, 2 })
	for range 12 {
		h.connect(t)
	}
	// Each is counted as accepted before it is looked at.
	eventually(t, "all but two are refused", func() bool { return h.Stats().Handshakes[api.RefusedFull.String()] >= 10 })
	h.everywhere(func(*loop) {}) // and the last of them is done with
	if open, surplus := h.halfOpen.Load(), h.surplus.Load(); open != 2 || surplus != 2 {
		t.Errorf("%d are half-open and %d are waited for", open, surplus)
	}
	if st := h.Stats(); st.Accepted != 12 || st.Handshakes[api.RefusedFull.String()] != 10 {
		t.Errorf("%d are accepted and %d of them refused", st.Accepted, st.Handshakes[api.RefusedFull.String()])
	}
}

// Loops read their clocks at different moments of one turn. That time counts
// once.
func TestPacesWithClocksApart(t *testing.T) {
	now := time.Unix(1_000_000, 999_000_000)
	overall, each := newTempo(100), pace{limit: 100}
	var all, one int
	for i := range 10_000 {
		at := now.Add(time.Duration(i%2) * 5 * time.Millisecond) // this side of the second, and that
		if overall.allow(at) {
			all++
		}
		if each.allow(1, at) {
			one++
		}
	}
	if all > 101 {
		t.Errorf("%d handshakes were allowed at once, of 100", all)
	}
	if one > 200 {
		t.Errorf("one address was allowed %d handshakes around a second's end, of 2 × 100", one)
	}
	if !each.allow(1, now.Add(-time.Hour)) {
		t.Error("a clock that was set back stops handshakes")
	}
}
