package bus

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// recorder are sessions that note what is asked of them. Every user has two
// sessions, until they are ended.
type recorder struct {
	mu      sync.Mutex
	ended   []string
	revoked map[string]int64
}

func (r *recorder) DisconnectUser(user string) int { return r.end("user "+user) + 1 }

func (r *recorder) DisconnectSession(id string) int { return r.end("session " + id) }

func (r *recorder) Rebalance(share float64) (int, error) {
	r.end(fmt.Sprintf("share %g", share))
	return int(share * 100), nil
}

func (r *recorder) end(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, what)
	return 1
}

func (r *recorder) Revoke(user string, issuedBefore int64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if issuedBefore <= r.revoked[user] {
		return 0
	}
	r.revoked[user] = issuedBefore
	return 2
}

func (r *recorder) before(user string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revoked[user]
}

func (r *recorder) endings() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.ended, ", ")
}

// forget is a gateway that starts anew, for what its sessions know.
func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.revoked)
}

// gateway is a bus with a control service, and what it did.
type gateway struct {
	*Bus
	sessions *recorder
	logs     *observer.ObservedLogs
}

// logged counts the lines that begin so.
func (g *gateway) logged(message string) int {
	return g.logs.Filter(func(e observer.LoggedEntry) bool { return strings.HasPrefix(e.Message, message) }).Len()
}

// newGateway does not wait for NATS. change may be nil.
func newGateway(tb testing.TB, url, name string, change func(*revocations)) *gateway {
	tb.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	b, err := New(Config{
		Options: Options{URL: url, Name: name}, Log: zap.New(core), Prefix: "push", FlashPrefix: "flash",
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Close)
	g := &gateway{b, &recorder{revoked: make(map[string]int64)}, logs}
	if err := b.ServeControl(Control{Sessions: g.sessions, Gateway: name, Version: "(devel)", RevocationTTL: time.Hour}); err != nil {
		tb.Fatal(err)
	}
	b.control.known.pace.giveUp = time.Hour // loaded is to mean loaded
	if change != nil {
		change(b.control.known)
	}
	if err := b.Start(&sink{}); err != nil {
		tb.Fatal(err)
	}
	return g
}

// openGateway waits until the stored revocations are known.
func openGateway(tb testing.TB, url, name string, change func(*revocations)) *gateway {
	tb.Helper()
	g := newGateway(tb, url, name, change)
	eventually(tb, name+" has taken the subscriptions", g.EverConnected)
	eventually(tb, name+" knows the revocations", g.RevocationsLoaded)
	return g
}

// askAll publishes one request and returns as many replies, by the gateway's
// name.
func askAll(tb testing.TB, nc *nats.Conn, verb, data string, answers int) map[string]reply {
	tb.Helper()
	return replies(tb, begin(tb, nc, verb, data), answers)
}

// begin publishes one request; the replies come on what it returns.
func begin(tb testing.TB, nc *nats.Conn, verb, data string) *nats.Subscription {
	tb.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		tb.Fatal(err)
	}
	if err := nc.PublishRequest("pushgate.control."+verb, inbox, []byte(data)); err != nil {
		tb.Fatal(err)
	}
	return sub
}

func replies(tb testing.TB, sub *nats.Subscription, answers int) map[string]reply {
	tb.Helper()
	all := make(map[string]reply)
	for range answers {
		m, err := sub.NextMsg(2 * patience)
		if err != nil {
			tb.Fatalf("%v after %v", err, all)
		}
		var r reply
		if err := json.Unmarshal(m.Data, &r); err != nil {
			tb.Fatalf("reply %q, %v", m.Data, m.Header)
		}
		all[r.Gateway] = r
	}
	if len(all) != answers {
		tb.Fatalf("answers come from %v", all)
	}
	return all
}

func TestEveryGatewayDisconnects(t *testing.T) {
	s := startNATS(t, 0)
	a, b := openGateway(t, s.ClientURL(), "a", nil), openGateway(t, s.ClientURL(), "b", nil)
	nc := connect(t, s.ClientURL())
	all := askAll(t, nc, "disconnect", `{"user":"alice"}`, 2)
	if all["a"].Disconnected != 2 || all["b"].Disconnected != 2 || all["a"].Stored != nil || all["a"].Warning != "" {
		t.Errorf("got %+v", all)
	}
	all = askAll(t, nc, "disconnect", `{"session":"AAAAAAAAAAAAAAAAAAAAAA"}`, 2)
	if all["a"].Disconnected != 1 || all["b"].Disconnected != 1 {
		t.Errorf("got %+v", all)
	}
	// Who wants no answer is served too.
	if err := nc.Publish("pushgate.control.disconnect", []byte(`{"user":"bob"}`)); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*gateway{a, b} {
		want := "user alice, session AAAAAAAAAAAAAAAAAAAAAA, user bob"
		eventually(t, "bob is disconnected", func() bool { return g.sessions.endings() == want })
	}
}

func TestBadRequests(t *testing.T) {
	s := startNATS(t, 0)
	g := openGateway(t, s.ClientURL(), "a", nil)
	nc := connect(t, s.ClientURL())
	for verb, wrong := range map[string]string{
		"disconnect": "the request must name a user or a session",
		"revoke":     "the request must name a user",
	} {
		m, err := nc.Request("pushgate.control."+verb, []byte(`{}`), patience)
		if err != nil {
			t.Fatal(err)
		}
		code, text := m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader)
		if code != "400" || text != wrong || len(m.Data) != 0 {
			t.Errorf("%s: %s %q %q", verb, code, text, m.Data)
		}
	}
	if err := nc.Publish("pushgate.control.revoke", []byte(`null`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "each is logged", func() bool { return g.logged("a control request was refused") == 3 })
	if did := g.sessions.endings(); did != "" || g.logged("a control request could not") != 0 {
		t.Errorf("a bad request had an effect: %s", did)
	}
}

func TestServiceIsDescribed(t *testing.T) {
	s := startNATS(t, 0)
	openGateway(t, s.ClientURL(), "a", nil)
	nc := connect(t, s.ClientURL())
	m, err := nc.Request("$SRV.INFO.pushgate", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Metadata["gateway"] != "a" || info.Metadata["version"] != "(devel)" || info.Version != "0.0.0-devel" {
		t.Errorf("got %+v", info)
	}
	for _, e := range info.Endpoints {
		if e.QueueGroup != "" || e.Subject != "pushgate.control."+e.Name {
			t.Errorf("endpoint %+v", e)
		}
	}
	if len(info.Endpoints) != 3 {
		t.Errorf("%d endpoints", len(info.Endpoints))
	}
}

func TestServeControlRefuses(t *testing.T) {
	b, err := New(Config{Options: Options{URL: "nats://127.0.0.1:1"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash"})
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]Control{
		"has no sessions":          {Gateway: "a", RevocationTTL: time.Hour},
		"needs the gateway's name": {Sessions: &recorder{}, RevocationTTL: time.Hour},
		"cannot be kept for 0s":    {Sessions: &recorder{}, Gateway: "a"},
	} {
		if err := b.ServeControl(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if !b.RevocationsLoaded() {
		t.Error("without a control service there is something to wait for")
	}
}

// A gateway that starts before NATS, and outlives one, answers.
func TestControlComesWithNATS(t *testing.T) {
	first := startNATS(t, 0)
	port := portOf(t, first)
	first.Shutdown()
	first.WaitForShutdown()
	g := newGateway(t, fmt.Sprintf("nats://127.0.0.1:%d", port), "a", nil)
	if g.EverConnected() || g.RevocationsLoaded() {
		t.Error("connected to nothing")
	}
	for range 2 {
		s := startNATS(t, port)
		eventually(t, "connected", func() bool { return g.Connected() && g.EverConnected() })
		if err := g.Flush(patience); err != nil {
			t.Fatal(err)
		}
		askAll(t, connect(t, s.ClientURL()), "disconnect", `{"user":"alice"}`, 1)
		s.Shutdown()
		s.WaitForShutdown()
		eventually(t, "the outage is noticed", func() bool { return !g.Connected() })
	}
}
