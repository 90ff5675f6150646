package bus

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"pushgate/api"
)

// TestVectors holds what gateways say to backends against the vectors that the
// specifications take their examples from.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../../api/testdata/vectors/nats.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []struct{ Name, Text string } }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	const gateway, session = "pod-1a2b", "AAAAAAAAAAAAAAAAAAAAAA"
	yes, no := true, false
	acked := ackBody{User: "alice", Session: session, Cursor: "e1.42", Seq: 42, Gateway: gateway}
	fromPhone := acked
	fromPhone.Device = "phone"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	transports := map[string]int64{"websocket": 2, "sse": 1, "poll": 0}
	alice, err := json.Marshal(api.SessionInfo{
		Session: session, User: "alice", Transport: "websocket", Subjects: []string{"user.alice", "broadcast"},
		Expires: at.Add(time.Hour), Connected: at,
	})
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]any{
		"receipt":             receipt{gateway, 2},
		"ack of a phone":      fromPhone,
		"ack without device":  acked,
		"disconnected":        reply{Gateway: gateway, Disconnected: 2},
		"revoked":             reply{Gateway: gateway, Disconnected: 2, Stored: &yes},
		"revoked, not stored": reply{Gateway: gateway, Stored: &no, Warning: "the revocation is not stored"},
		"moving":              moved{gateway, 20},
		"sessions of a user":  listing{Gateway: gateway, Sessions: []json.RawMessage{alice}},
		"sessions counted":    counts{gateway, 3, transports},
		"figures": api.Figures{
			Gateway: gateway, Version: "v1.0.0", Uptime: 60, Sessions: 3, Transports: transports,
			Handshakes: map[string]int64{"accepted": 3}, Closes: map[string]int64{"client": 0}, Drops: map[string]int64{"expired": 0},
			Events: 5, Deliveries: 9,
		},
		"log level set": levelReply{Gateway: gateway, Level: "debug", Was: "info", For: "10m0s"},
		"why": api.Why{
			Gateway: gateway, User: "alice", ID: "m-1", Since: at.Truncate(time.Hour), Sessions: []api.SessionInfo{},
			History: []api.Happening{{Time: at.Add(678 * time.Millisecond), What: "seen", Subject: "user.alice", ID: "m-1", Seq: 42}},
			Verdict: "m-1 came at 2026-01-02T03:04:05.678Z on user.alice; alice has no session here",
		},
		"online":               onlineReply{gateway, []string{"alice"}},
		"connected":            api.Presence{User: "alice", Session: session, Gateway: gateway, Reason: "websocket"},
		"disconnected session": api.Presence{User: "alice", Session: session, Gateway: gateway, Reason: "lost"},
	}
	for _, v := range file.Cases {
		got, err := json.Marshal(said[v.Name])
		if err != nil || string(got) != v.Text {
			t.Errorf("%s: %v, %s, want %s", v.Name, err, got, v.Text)
		}
		delete(said, v.Name)
	}
	for name := range said {
		t.Errorf("%s has no vector", name)
	}
}
