package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"pushgate/api"
)

// waitLong is how long commands wait for gateways' answers.
const waitLong = "1m"

// ctl runs a command against a gateway's NATS and returns the answers, by
// gateway.
func (r *running) ctl(args ...string) map[string]map[string]any {
	r.tb.Helper()
	o := command([]string{"GATEWAY_NATS_URL=" + r.cfg.NATS.URL}, nil, append(args, "--wait", waitLong)...)
	if o.code != exitOK {
		r.tb.Fatalf("%v: exit %d, %s", args, o.code, o.errors)
	}
	all := map[string]map[string]any{}
	for line := range strings.Lines(o.out) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			r.tb.Fatalf("%v prints %q", args, line)
		}
		all[fmt.Sprint(m["gateway"])] = m
	}
	return all
}

func TestCtl(t *testing.T) {
	s := startServer(t)
	a, b := setup{nats: s}.start(t), setup{nats: s}.start(t)
	alice, _ := a.dial(aliceToken(`subscribe=["rooms.>"]`), "subject=rooms.1")
	other := b.connect("bob")

	t.Run("sessions", func(t *testing.T) {
		total := 0.0
		for _, m := range a.ctl("ctl", "sessions", "--gateways", "2") {
			n, _ := m["sessions"].(float64)
			total += n
		}
		if total != 2 {
			t.Errorf("%v sessions", total)
		}
		var mine []any
		for _, m := range a.ctl("ctl", "sessions", "--user", "alice", "--gateways", "2") {
			some, ok := m["sessions"].([]any)
			if !ok || m["more"] != nil {
				t.Errorf("got %v", m)
			}
			mine = append(mine, some...)
		}
		if len(mine) != 1 {
			t.Fatalf("alice has %v", mine)
		}
		got, _ := mine[0].(map[string]any)
		if id, _ := got["session"].(string); len(id) != 22 || got["user"] != "alice" || got["transport"] != "websocket" ||
			fmt.Sprint(got["subjects"]) != "[user.alice broadcast rooms.1]" || got["expires"] == nil || got["connected"] == nil {
			t.Errorf("got %v", got)
		}
	})
	t.Run("stats", func(t *testing.T) {
		for _, m := range a.ctl("ctl", "stats", "--gateways", "2") {
			if m["sessions"] != 1.0 || m["uptime_seconds"] == nil || m["version"] == "" {
				t.Errorf("got %v", m)
			}
		}
	})
	t.Run("loglevel", func(t *testing.T) {
		for _, m := range a.ctl("ctl", "loglevel", "--level", "debug", "--for", "2s", "--gateways", "2") {
			if m["level"] != "debug" || m["was"] != "info" || m["for"] != "2s" {
				t.Errorf("got %v", m)
			}
		}
		eventually(t, "the level goes back", func() bool {
			for _, m := range a.ctl("ctl", "loglevel", "--gateways", "2") {
				if m["level"] != "info" {
					return false
				}
			}
			return true
		})
	})
	t.Run("why", func(t *testing.T) {
		a.event("flash.user.alice", "1", "Nats-Msg-Id: m-1")
		alice.data(1)
		o := command([]string{"GATEWAY_NATS_URL=" + s.ClientURL()}, nil, "why", "--user", "alice", "--id", "m-1", "--gateways", "2", "--wait", waitLong)
		for _, want := range []string{"m-1 was given to alice at", "alice has no session here.", "queued        user.alice  m-1", "websocket  user.alice broadcast rooms.1"} {
			if !strings.Contains(o.out, want) {
				t.Errorf("exit %d, %q is missing in\n%s%s", o.code, want, o.out, o.errors)
			}
		}
	})
	t.Run("rebalance", func(t *testing.T) {
		o := command([]string{"GATEWAY_NATS_URL=" + s.ClientURL()}, nil, "ctl", "rebalance", "--share", "7", "--gateways", "2", "--wait", waitLong)
		if o.code != exitFailure || !strings.Contains(o.errors, "share") {
			t.Errorf("exit %d, %s", o.code, o.errors)
		}
	})
	t.Run("disconnect and revoke", func(t *testing.T) {
		a.ctl("ctl", "disconnect", "--user", "alice", "--gateways", "2")
		alice.ended(4000, "disconnected")
		a.ctl("ctl", "revoke", "--user", "bob", "--gateways", "2")
		other.ended(4000, "revoked")
	})
	t.Run("errors", func(t *testing.T) {
		lonely := startServer(t)
		for _, tt := range []struct {
			args string
			code int
			want string
		}{
			{"ctl stats --wait " + waitLong, exitFailure, "no gateway offers pushgate.control.stats"},
			{"ctl disconnect", exitUsage, "--user or --session"},
			{"ctl stats --wait 0s", exitUsage, "--wait"},
			{"ctl stats --gateways=-1", exitUsage, "--gateways"},
			{"why", exitUsage, "--user"},
		} {
			o := command([]string{"GATEWAY_NATS_URL=" + lonely.ClientURL()}, nil, strings.Fields(tt.args)...)
			if o.code != tt.code || !strings.Contains(o.errors, tt.want) {
				t.Errorf("%s: exit %d, %s", tt.args, o.code, o.errors)
			}
		}
	})
}

func TestControlRefuses(t *testing.T) {
	g := startGateway(t)
	for _, tt := range [][3]string{
		{"sessions", `{"users":["a"]}`, "unknown field"},
		{"stats", `{"user":"a"}`, "it takes none"},
		{"loglevel", `{"level":"loud"}`, "level must be one of debug, info, warn, error"},
		{"loglevel", `{"for":"1m"}`, "for needs a level"},
		{"loglevel", `{"level":"info","for":"1000h"}`, "for must be a time like 10m"},
		{"why", `{"id":"m-1"}`, "must name a user"},
		{"why", `{"user":"a","id":""}`, "id must have 1 to 4096 bytes"},
	} {
		m, err := g.nats.Request("pushgate.control."+tt[0], []byte(tt[1]), comesWithin)
		if err != nil {
			t.Fatal(err)
		}
		if text := m.Header.Get("Nats-Service-Error"); !strings.Contains(text, tt[2]) {
			t.Errorf("%s %s: %q", tt[0], tt[1], text)
		}
	}
	// Presence is off.
	if _, err := g.nats.Request("pushgate.presence.users", []byte(`{"users":[]}`), comesWithin); err != nats.ErrNoResponders {
		t.Errorf("got %v", err)
	}
}

func TestPresence(t *testing.T) {
	g := startDurable(t, startJetStream(t), "GATEWAY_PRESENCE=true")
	told := make(chan *nats.Msg, 64)
	for _, what := range []string{"connected", "disconnected"} {
		if _, err := g.nats.ChanSubscribe("pushgate.presence."+what, told); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.nats.Flush(); err != nil {
		t.Fatal(err)
	}
	next := func(what, user, reason string) api.Presence {
		t.Helper()
		late := time.NewTimer(90 * time.Second)
		defer late.Stop()
		var m *nats.Msg
		select {
		case m = <-told:
		case <-late.C:
			t.Fatalf("nobody says %s %s", what, user)
		}
		var p api.Presence
		if err := json.Unmarshal(m.Data, &p); err != nil || m.Subject != "pushgate.presence."+what ||
			p.User != user || p.Reason != reason || len(p.Session) != 22 || p.Gateway == "" {
			t.Fatalf("got %s on %s, want %s %s %s", m.Data, m.Subject, what, user, reason)
		}
		return p
	}
	online := func(want ...string) {
		t.Helper()
		var got struct{ Online []string }
		g.asked("pushgate.presence.users", `{"users":["nobody","carol","alice","alice","paul"]}`, &got)
		if slices.Sort(got.Online); !slices.Equal(got.Online, want) {
			t.Errorf("online are %q, want %q", got.Online, want)
		}
	}
	poll := func() {
		t.Helper()
		req, _ := http.NewRequest(http.MethodGet, "http://"+g.addr.String()+"/v1/events", nil)
		req.Header.Set("Authorization", "Bearer "+g.token("paul"))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	online()
	poll()
	next("connected", "paul", "poll")
	poll() // no news
	alice := g.connect("alice")
	came := next("connected", "alice", "websocket")
	online("alice", "paul")
	_ = alice.CloseNow()
	if went := next("disconnected", "alice", "lost"); went.Session != came.Session {
		t.Errorf("%v came, %v went", came, went)
	}
	online("paul")
	eventually(t, "all three are counted", func() bool { return g.metric(`pushgate_presence_total{result="sent"}`) == "3" })
	if m, err := g.nats.Request("pushgate.presence.users", []byte(`{"users":["`+strings.Repeat(`a","`, 10_000)+`b"]}`), comesWithin); err != nil ||
		!strings.Contains(m.Header.Get("Nats-Service-Error"), "at most 10000") {
		t.Errorf("got %v, %v", m, err)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	next("disconnected", "paul", "drain") // nobody else could say so
}
