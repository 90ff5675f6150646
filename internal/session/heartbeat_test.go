package session

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLongerHeartbeat: a phone may ask for it, within bounds, and is told in the
// welcome what it got.
func TestLongerHeartbeat(t *testing.T) {
	h := startHub(t, still)
	for query, want := range map[string]float64{
		"": 60, "?heartbeat=240s": 240, "?heartbeat=4m": 240, "?heartbeat=61s": 61, "?heartbeat=90s": 90,
		"?heartbeat=151s": 160, "?heartbeat=10s": 60, "?heartbeat=24h": 900,
	} {
		c := h.dialWith(t, "alice", query)
		if c.welcome["heartbeat"] != want {
			t.Errorf("%q is given a heartbeat of %v, want %v", query, c.welcome["heartbeat"], want)
		}
	}
	for _, query := range []string{"?heartbeat=soon", "?heartbeat=240", "?heartbeat=-5s", "?heartbeat=0s"} {
		c := h.connect(t)
		c.write("GET /v1/ws" + query + strings.TrimPrefix(upgradeHead("alice"), "GET /v1/ws"))
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v, %v", query, resp, err)
		}
	}
}

// TestLongerHeartbeatIsKept: who asked for it is silent for longer than others
// may be, is pinged later, and ended later.
func TestLongerHeartbeatIsKept(t *testing.T) {
	clock := newStillClock()
	h := startHub(t, func(c *Config) {
		c.Now, c.Heartbeat, c.MaxHeartbeat = clock.now, time.Second, 10*time.Second
	})
	usual, patient := h.dialRawWith(t, "alice", ""), h.dialRawWith(t, "bob", "?heartbeat=4s")
	for second := 1; second <= 8; second++ {
		clock.move(h, time.Second)
		for user, end := range map[string]int{"alice": 2, "bob": 8} {
			if ended := h.silent(user) < 0; ended != (second >= end) {
				t.Errorf("after %d s of silence %s's session has ended: %v", second, user, ended)
			}
		}
	}
	for c, want := range map[*rawClient]int{usual: 1, patient: 3} { // one each half heartbeat
		pings := 0
		first, payload := c.frame(t)
		for ; first != 0x88; first, payload = c.frame(t) {
			if first == 0x89 {
				pings++
			}
		}
		if pings != want || !strings.HasPrefix(payload, "\x10\x05") {
			t.Errorf("after %d pings, of %d, it ends with %q", pings, want, payload)
		}
	}
}
