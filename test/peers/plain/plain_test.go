package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

const secret = "a secret of at least 32 bytes, for the test"

// patience bounds everything that the tests wait for.
const patience = time.Minute

func startNATS(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	return s.ClientURL()
}

// peer runs the program until stop, against a real NATS server; it also
// checks that nothing of it stays behind.
func peer(t *testing.T) (addr string, nc *nats.Conn, stop func()) {
	t.Helper()
	url := startNATS(t)
	nc, err := nats.Connect(url, nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		// goleak waits for less than half a second, which is no time for the
		// last goroutines of a busy machine.
		left := goleak.Find(before)
		for end := time.Now().Add(patience); left != nil && time.Now().Before(end); {
			left = goleak.Find(before)
		}
		if left != nil {
			t.Error(left)
		}
	})

	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-nats", url, "-secret", secret, "-debug", "127.0.0.1:0"}, in)
		_ = in.CloseWithError(errors.Join(io.EOF, err))
		ended <- err
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			t.Error("run does not end")
		}
	}
	t.Cleanup(stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("before ready: %v", err)
	}
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		t.Fatalf("not the ready line: %q", line)
	}
	return addr, nc, stop
}

func token(t *testing.T, sub, key string, lifetime time.Duration) string {
	t.Helper()
	claims := jwt.RegisteredClaims{Subject: sub, ExpiresAt: jwt.NewNumericDate(time.Now().Add(lifetime))}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func dial(addr, token string) (*websocket.Conn, *http.Response, error) {
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return websocket.DefaultDialer.Dial("ws://"+addr+"/v1/ws", header)
}

// connect is a client of sub that has read its welcome.
func connect(t *testing.T, addr, sub string) *websocket.Conn {
	t.Helper()
	ws, _, err := dial(addr, token(t, sub, secret, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	welcome := next(t, ws)
	if welcome.Type != "welcome" || welcome.User != sub || len(welcome.Session) != 22 ||
		strings.Join(welcome.Subjects, " ") != "user."+sub+" broadcast" {
		t.Fatalf("not the welcome of %s: %+v", sub, welcome)
	}
	return ws
}

type frame struct {
	Type, Subject, ID, User, Session, Ref, Code, Time string
	Subjects                                          []string
	Data                                              json.RawMessage
}

func next(t *testing.T, ws *websocket.Conn) (f frame) {
	t.Helper()
	message, err := read(ws)
	if err == nil {
		err = json.Unmarshal(message, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(ws *websocket.Conn) ([]byte, error) {
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	_, message, err := ws.ReadMessage()
	return message, err
}

func TestEvents(t *testing.T) {
	addr, nc, stop := peer(t)
	alice, bob := connect(t, addr, "alice"), connect(t, addr, "bob")

	publish(t, nc, &nats.Msg{Subject: "push.user.alice", Data: []byte(`{"n":1}`), Header: nats.Header{"Nats-Msg-Id": {"m-1"}}})
	publish(t, nc, nats.NewMsg("push.user.nobody"))
	publish(t, nc, &nats.Msg{Subject: "push.broadcast", Data: []byte("all")})

	got := next(t, alice)
	if got.Type != "event" || got.Subject != "user.alice" || got.ID != "m-1" || string(got.Data) != `{"n":1}` || got.Time == "" {
		t.Errorf("alice's event: %+v", got)
	}
	for name, ws := range map[string]*websocket.Conn{"alice": alice, "bob": bob} {
		if got := next(t, ws); got.Type != "event" || got.Subject != "broadcast" || string(got.Data) != `"all"` {
			t.Errorf("%s's broadcast: %+v", name, got)
		}
	}

	// The answers come in order: the pong frame is before the message's. The
	// library gives a pong frame up that it cannot write within a second.
	ponged := false
	alice.SetPongHandler(func(data string) error { ponged = data == "x"; return nil })
	for end := time.Now().Add(patience); !ponged; {
		if time.Now().After(end) {
			t.Fatal("the ping frame was not answered")
		}
		if err := alice.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		say(t, alice, `{"type":"ping","ref":"0"}`)
		if got := next(t, alice); got.Type != "pong" || got.Ref != "0" {
			t.Fatalf("the ping is answered %+v", got)
		}
	}
	for _, c := range []struct{ say, wantType, wantCode string }{
		{`{"type":"ping","ref":"1"}`, "pong", ""},
		{`{"type":"subscribe","ref":"1","subject":"rooms.1"}`, "error", "unavailable"},
		{`{"type":"dance","ref":"1"}`, "error", "bad_request"},
	} {
		say(t, alice, c.say)
		if got := next(t, alice); got.Type != c.wantType || got.Code != c.wantCode || got.Ref != "1" {
			t.Errorf("%s is answered %+v", c.say, got)
		}
	}

	// Bob leaves; what is for the others still comes.
	_ = bob.Close()
	publish(t, nc, nats.NewMsg("push.broadcast"))
	if got := next(t, alice); got.Subject != "broadcast" {
		t.Errorf("after bob left: %+v", got)
	}
	publish(t, nc, nats.NewMsg("push.user.alice"))
	if got := next(t, alice); got.Subject != "user.alice" {
		t.Errorf("after bob left: %+v", got)
	}
	stop()
	if _, err := read(alice); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("at the end alice reads %v", err)
	}
}

func say(t *testing.T, ws *websocket.Conn, message string) {
	t.Helper()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, nc *nats.Conn, m *nats.Msg) {
	t.Helper()
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	addr, _, _ := peer(t)
	for _, c := range []struct {
		name, token string
		want        int
	}{
		{"no token", "", http.StatusUnauthorized},
		{"garbage", "x.y.z", http.StatusUnauthorized},
		{"another secret", token(t, "alice", "not the secret, but as long as it is", time.Hour), http.StatusUnauthorized},
		{"expired", token(t, "alice", secret, -time.Hour), http.StatusUnauthorized},
		{"a wildcard for a user", token(t, ">", secret, time.Hour), http.StatusForbidden},
	} {
		ws, answer, err := dial(addr, c.token)
		if err == nil {
			_ = ws.Close()
			t.Errorf("%s: connected", c.name)
			continue
		}
		if answer == nil || answer.StatusCode != c.want {
			t.Errorf("%s: %v, %v, want %d", c.name, err, answer, c.want)
		}
	}
	if err := run(context.Background(), nil, io.Discard); err == nil {
		t.Error("it runs without a secret")
	}
}

// A client that does not read is closed, and the others miss nothing by it.
func TestSlowClient(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a write to time out")
	}
	addr, nc, _ := peer(t)
	slow, fast := connect(t, addr, "slow"), connect(t, addr, "fast")

	const count = 400 // of 60 kB: more than the kernel's buffers take
	event := nats.NewMsg("push.broadcast")
	event.Data = []byte(strings.Repeat("x", 60_000))
	for i := range count {
		// One at a time, which its socket takes whether it is read or not: the
		// fast client must not be taken for slow because this test stands still.
		publish(t, nc, event)
		// Not parsed: that is slow enough with the race detector to matter.
		if _, err := read(fast); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	got := 0
	for {
		_, err := read(slow)
		if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
			t.Error("the slow client was not closed")
		}
		if err != nil {
			break
		}
		got++
	}
	if got >= count {
		t.Errorf("the slow client got all %d events", got)
	}
}

func TestDebug(t *testing.T) {
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodPost, "/debug/freemem", http.StatusNoContent},
		{http.MethodGet, "/debug/pprof/goroutine?debug=1", http.StatusOK},
	} {
		w := httptest.NewRecorder()
		debugRoutes().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.want {
			t.Errorf("%s %s: %d", c.method, c.path, w.Code)
		}
	}
}
