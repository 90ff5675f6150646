package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// comesWithin bounds what must come: how soon is not what is tested, and the
// machine may be busy.
const comesWithin = time.Minute

// startServer runs a real NATS server on a port of its own.
func startServer(tb testing.TB) *server.Server {
	tb.Helper()
	return startServerWith(tb, server.Options{Port: server.RANDOM_PORT})
}

func startServerWith(tb testing.TB, o server.Options) *server.Server {
	tb.Helper()
	o.Host, o.NoSigs, o.NoLog = "127.0.0.1", true, true
	s, err := server.NewServer(&o)
	if err != nil {
		tb.Fatal(err)
	}
	s.Start()
	tb.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(comesWithin) {
		tb.Fatal("the NATS server does not start")
	}
	return s
}

// heldAddr is an address at which nobody listens, for who has to know where
// before somebody does, or after. A connection that was accepted there keeps
// it: the system gives its port to nobody who does not name it.
func heldAddr(tb testing.TB) *net.TCPAddr {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = out.Close() })
	in, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = in.Close() })
	return l.Addr().(*net.TCPAddr)
}

// running is a whole gateway in this process, and a publisher beside it.
type running struct {
	*gateway
	tb   testing.TB
	nats *nats.Conn
	stop func() error // ends Run, and waits for its end
}

// startGateway runs a gateway on free ports; settings are KEY=value lines of
// the environment.
func startGateway(tb testing.TB, settings ...string) *running {
	tb.Helper()
	return setup{}.start(tb, settings...)
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(comesWithin)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("never came true: %s", what)
		}
		pause := time.NewTimer(2 * time.Millisecond)
		<-pause.C
	}
}

// status asks the admin listener; 0 is no answer.
func (r *running) status(path string) int {
	resp, err := http.Get("http://" + r.admin.addr.String() + path)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}

// metric reads one line of /metrics.
func (r *running) metric(name string) string {
	r.tb.Helper()
	resp, err := http.Get("http://" + r.admin.addr.String() + "/metrics")
	if err != nil {
		r.tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.tb.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "none"
}

func (r *running) publish(subject, data string) {
	r.tb.Helper()
	if err := r.nats.Publish(subject, []byte(data)); err != nil {
		r.tb.Fatal(err)
	}
	if err := r.nats.Flush(); err != nil {
		r.tb.Fatal(err)
	}
}

func (r *running) token(sub string) string {
	r.tb.Helper()
	token, err := mintToken(&r.cfg.issuers()[0], tokenClaims(&r.cfg.issuers()[0], sub, time.Now(), time.Hour))
	if err != nil {
		r.tb.Fatal(err)
	}
	return token
}

type wsClient struct {
	*websocket.Conn
	tb testing.TB
}

// connect opens a session and reads its welcome.
func (r *running) connect(sub string) *wsClient {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	conn, err := dialWS(ctx, "ws://"+r.addr.String()+"/v1/ws", &websocket.DialOptions{
		Subprotocols: []string{"pushgate.v1", "bearer." + r.token(sub)},
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	r.tb.Cleanup(func() { _ = conn.CloseNow() })
	if conn.Subprotocol() != "pushgate.v1" {
		r.tb.Errorf("the subprotocol is %q", conn.Subprotocol())
	}
	c := &wsClient{conn, r.tb}
	if m := c.next(); m["type"] != "welcome" || m["user"] != sub {
		r.tb.Fatalf("the first frame is %v", m)
	}
	return c
}

func (c *wsClient) next() map[string]any {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	_, b, err := c.Read(ctx)
	if err != nil {
		c.tb.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		c.tb.Fatal(err)
	}
	return m
}

func TestWholeGateway(t *testing.T) {
	for _, interest := range []string{"wildcard", "exact"} {
		t.Run(interest, func(t *testing.T) {
			g := startGateway(t, "GATEWAY_NATS_INTEREST="+interest)
			alice, bob := g.connect("alice"), g.connect("bob")
			for _, tc := range []struct{ subject, data, want string }{
				{"push.user.alice", `{"a":1}`, "data map[a:1]"},
				{"flash.user.alice", "plain", "data plain"},
				{"push.broadcast", "\xff\x00", "data_base64 /wA="},
				{"push.user.alice", "", "data "},
			} {
				g.publish(tc.subject, tc.data)
				field, _, _ := strings.Cut(tc.want, " ")
				m := alice.next()
				if got := field + " " + fmt.Sprint(m[field]); got != tc.want || m["type"] != "event" {
					t.Errorf("%s %q comes as %v", tc.subject, tc.data, m)
				}
				if want := strings.SplitN(tc.subject, ".", 2)[1]; m["subject"] != want {
					t.Errorf("%s comes as %v", tc.subject, m["subject"])
				}
			}
			// Bob has seen nothing of it but the broadcast.
			g.publish("push.user.bob", "end")
			if m := bob.next(); m["subject"] != "broadcast" {
				t.Errorf("bob got %v", m)
			}
			if m := bob.next(); m["data"] != "end" {
				t.Errorf("bob got %v", m)
			}
			eventually(t, "deliveries are counted", func() bool { return g.metric("pushgate_deliveries_total") == "6" })
			if n := g.metric(`pushgate_sessions{transport="websocket"}`); n != "2" {
				t.Errorf("%s sessions", n)
			}
			if n := g.metric(`pushgate_handshakes_total{result="accepted"}`); n != "2" {
				t.Errorf("%s handshakes", n)
			}
		})
	}
}

func TestLargeEventIsDroppedOnEntry(t *testing.T) {
	g := startGateway(t, "GATEWAY_LIMITS_EVENT_BYTES=1KiB")
	alice := g.connect("alice")
	g.publish("push.user.alice", strings.Repeat("x", 1025))
	g.publish("push.user.alice", "fits")
	if m := alice.next(); m["data"] != "fits" {
		t.Errorf("got %v", m)
	}
	if n := g.metric(`pushgate_drops_total{cause="too_large"}`); n != "1" {
		t.Errorf("%s drops", n)
	}
}

func TestNATSOutageEndsNoSession(t *testing.T) {
	port := heldAddr(t).Port
	s := startServerWith(t, server.Options{Port: port})
	g := setup{nats: s}.start(t)
	alice := g.connect("alice")
	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "the gateway notices", func() bool { return g.metric("pushgate_nats_connected") == "0" })
	if code := g.status("/readyz"); code != http.StatusOK {
		t.Errorf("readyz is %d while NATS blinks", code)
	}
	again := startServerWith(t, server.Options{Port: port})
	eventually(t, "NATS is back", func() bool { return g.metric("pushgate_nats_connected") == "1" })
	if err := g.bus.Flush(comesWithin); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(again.ClientURL(), nats.Timeout(comesWithin))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Publish("push.user.alice", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if m := alice.next(); m["data"] != 1.0 {
		t.Errorf("got %v", m)
	}
}

// TestDrainOnStop has somebody come within drain.delay, which ends only when
// that is done: the gateway is told to hurry then.
func TestDrainOnStop(t *testing.T) {
	hurry := make(chan struct{})
	rush := sync.OnceFunc(func() { close(hurry) })
	defer rush()
	g := setup{hurry: hurry}.start(t, "GATEWAY_DRAIN_DELAY=5m")
	clients := []*wsClient{g.connect("alice"), g.connect("bob")}
	done := make(chan error, 1)
	go func() { done <- g.stop() }()
	eventually(t, "it is not ready at once", func() bool { return g.status("/readyz") == http.StatusServiceUnavailable })
	if code := g.status("/livez"); code != http.StatusOK {
		t.Errorf("livez is %d while draining", code)
	}
	clients = append(clients, g.connect("late"))
	rush()
	for _, c := range clients {
		c.drained()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := g.metric(`pushgate_closes_total{reason="drain"}`); n != "3" {
		t.Errorf("%s closes", n)
	}
}

// TestDrainDelayEnds: nobody has to hurry it, and nobody is sent away before.
func TestDrainDelayEnds(t *testing.T) {
	const delay = 300 * time.Millisecond
	g := startGateway(t, "GATEWAY_DRAIN_DELAY="+delay.String())
	alice := g.connect("alice")
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- g.stop() }()
	alice.drained()
	if after := time.Since(began); after < delay {
		t.Errorf("sent away after %s", after)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// drained reads the end of a session whose gateway goes.
func (c *wsClient) drained() {
	c.tb.Helper()
	if m := c.next(); m["type"] != "drain" || m["reconnect_after_ms"] == nil {
		c.tb.Errorf("got %v", m)
	}
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		c.tb.Errorf("ends with %v", err)
	}
}

func TestReadyOnlyWithNATS(t *testing.T) {
	cfg, _, err := loadConfig(input{env: []string{
		"GATEWAY_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_DEBUG_LISTEN=127.0.0.1:0",
		"GATEWAY_NATS_URL=nats://127.0.0.1:1", "GATEWAY_AUTH_HS256_SECRET=" + testSecret,
	}})
	if err != nil {
		t.Fatal(err)
	}
	level := zap.NewAtomicLevel()
	g, err := newGateway(cfg, zap.NewNop(), &level, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	r := &running{gateway: g, tb: t}
	if code := r.status("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz is %d without NATS", code)
	}
}
