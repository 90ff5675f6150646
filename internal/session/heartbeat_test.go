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
	h := startHub(t, nil)
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
	h := startHub(t, func(c *Config) { c.Heartbeat, c.MaxHeartbeat = time.Second, 10*time.Second })
	usual, patient := h.dialRawWith(t, "alice", ""), h.dialRawWith(t, "bob", "?heartbeat=4s")
	began := time.Now()
	if code := usual.closeCode(); code != 4101 {
		t.Fatalf("the usual one ends with %d", code)
	}
	if h.Stats().Sessions != 1 {
		t.Error("the patient one is gone with it")
	}
	if code := patient.closeCode(); code != 4101 {
		t.Fatalf("the patient one ends with %d", code)
	}
	if took := time.Since(began); took < 7*time.Second {
		t.Errorf("it ended after %s", took)
	}
}
