package session

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/auth"
	"pushgate/internal/poll"
)

func TestMain(m *testing.M) {
	if setting := os.Getenv(envClients); setting != "" {
		if err := runClients(setting); err != nil {
			fmt.Fprintln(os.Stderr, "the client process:", err)
			os.Exit(1)
		}
		return
	}
	// As the gateway does it: the loops hold two processors, others need one.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 3))
	code := m.Run()
	if code == 0 {
		code = leaks()
	}
	os.Exit(code)
}

// leaks waits until no goroutine is left, and reports those that stay. goleak
// alone gives them half a second, which a busy machine may take to end one.
func leaks() (code int) {
	deadline := time.Now().Add(patience)
	for {
		err := goleak.Find()
		if err == nil {
			return 0
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			return 1
		}
	}
}

// patience is how long a test waits for what comes as soon as the machine has
// time for it.
const patience = time.Minute

// plainTokens takes "user" or "user:seconds" for a token: what tokens are is
// not this package's matter.
type plainTokens struct{}

func (plainTokens) Verify(token string) (auth.Identity, error) {
	user, rest, _ := strings.Cut(token, ":")
	life := time.Hour
	if rest != "" {
		life, _ = time.ParseDuration(rest)
	}
	return auth.Identity{
		User: user, Subjects: []string{"user." + user, "broadcast"}, Expires: time.Now().Add(life).Unix(),
	}, nil
}

func (plainTokens) Revoked(string, int64) bool { return false }

type testHub struct {
	*Hub
	addr string
}

func startHub(tb testing.TB, change func(*Config)) *testHub {
	tb.Helper()
	cfg := Config{
		Verifier: plainTokens{}, Log: zap.NewNop(), Loops: 2,
		Subscriptions: map[string][]string{"": {"user.{sub}", "broadcast"}},
		Carriers:      []string{"header", "subprotocol", "query"},
		HalfOpen:      256, TokenBytes: 8 << 10, Subjects: 64, SameHost: true,
		EventBytes: 64 << 10, OutboxBytes: 256 << 10, MessageBytes: 4 << 10, PollBytes: 1 << 20,
		Heartbeat: time.Minute, MaxHeartbeat: 15 * time.Minute,
	}
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(h.Close)
	l, err := poll.Listen("127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.Serve(l); err != nil {
		tb.Fatal(err)
	}
	return &testHub{h, l.Addr().String()}
}

// client is a real WebSocket client.
type client struct {
	*websocket.Conn
	tb      testing.TB
	welcome map[string]any
}

func (h *testHub) dial(tb testing.TB, token string) *client {
	tb.Helper()
	return h.dialWith(tb, token, "")
}

// dialWith connects with a query and reads the welcome.
func (h *testHub) dialWith(tb testing.TB, token, query string) *client {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+h.addr+"/v1/ws"+query, &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		tb.Fatal(query, err)
	}
	conn.SetReadLimit(1 << 20)
	c := &client{Conn: conn, tb: tb}
	tb.Cleanup(func() { _ = conn.CloseNow() })
	c.welcome = c.next()
	if c.welcome["type"] != "welcome" {
		tb.Fatalf("the first frame is %v", c.welcome)
	}
	return c
}

func (c *client) read() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := c.Read(ctx)
	return b, err
}

func (c *client) next() map[string]any {
	c.tb.Helper()
	b, err := c.read()
	if err != nil {
		c.tb.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		c.tb.Fatalf("%q: %v", b, err)
	}
	return m
}

func (c *client) say(text string) {
	c.tb.Helper()
	if err := c.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		c.tb.Fatal(err)
	}
}

// ends reads until the connection ends and returns its close code.
func (c *client) ends() websocket.StatusCode {
	for {
		if _, err := c.read(); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func event(subject, data string) api.Event {
	return api.Event{Subject: subject, Time: time.Now(), Data: []byte(data)}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("never came true: %s", what)
		}
		pause := time.NewTimer(2 * time.Millisecond)
		<-pause.C
	}
}

// stillClock is a hub's clock that stands until a test moves it: nobody is late,
// or silent for too long, because the machine is slow.
type stillClock struct {
	began time.Time
	moved atomic.Int64
}

func newStillClock() *stillClock { return &stillClock{began: time.Now()} }

func (c *stillClock) now() time.Time { return c.began.Add(time.Duration(c.moved.Load())) }

// still has a hub's clock stand.
func still(c *Config) { c.Now = newStillClock().now }

// move lets time pass, and returns when all loops have done what was due by then.
func (c *stillClock) move(h *testHub, by time.Duration) {
	c.moved.Add(int64(by))
	// The turn of the first call may have begun before. That of the second sees
	// the new time, and is over when the third is called.
	for range 3 {
		h.everywhere(func(*loop) {})
	}
}

func TestEventsReachTheirUsersOnly(t *testing.T) {
	h := startHub(t, nil)
	alice, bob := h.dial(t, "alice"), h.dial(t, "bob")
	h.Deliver([]api.Event{event("user.alice", `1`), event("user.bob", `2`), event("broadcast", `3`), event("user.alice", `4`)})
	for c, want := range map[*client]string{alice: "1 4", bob: "2"} {
		// Order holds per subject only: the broadcast may come anywhere.
		var own []string
		for range len(strings.Fields(want)) + 1 {
			if got := c.next(); got["subject"] != "broadcast" {
				own = append(own, fmt.Sprint(got["data"]))
			}
		}
		if got := strings.Join(own, " "); got != want {
			t.Errorf("%v got %s, want %s", c.welcome["user"], got, want)
		}
	}
	eventually(t, "deliveries are counted", func() bool { return h.Stats().Deliveries == 5 })
}

func TestWelcome(t *testing.T) {
	h := startHub(t, nil)
	c := h.dial(t, "alice")
	if id := c.welcome["session"].(string); len(id) != 22 {
		t.Errorf("session is %q", id)
	}
	if c.welcome["user"] != "alice" || c.welcome["heartbeat"] != 60.0 || fmt.Sprint(c.welcome["subjects"]) != "[user.alice broadcast]" {
		t.Errorf("welcome is %v", c.welcome)
	}
	if _, err := time.Parse(time.RFC3339, c.welcome["expires"].(string)); err != nil {
		t.Error(err)
	}
}

func TestControlMessages(t *testing.T) {
	h := startHub(t, nil)
	c := h.dial(t, "alice")
	for _, tc := range []struct{ say, kind, code, ref string }{
		{`{"type":"ping","ref":"7"}`, "pong", "", "7"},
		{`{"type":"subscribe","ref":"8","subject":"rooms.1"}`, "error", "forbidden", "8"},
		{`{"type":"subscribe","ref":"9"}`, "error", "bad_request", "9"},
		{`{"type":"dance","ref":"10"}`, "error", "bad_request", "10"},
		{`[]`, "error", "bad_request", ""},
		{`{`, "error", "bad_request", ""},
	} {
		c.say(tc.say)
		got := c.next()
		ref, _ := got["ref"].(string)
		code, _ := got["code"].(string)
		if got["type"] != tc.kind || code != tc.code || ref != tc.ref {
			t.Errorf("%s is answered %v", tc.say, got)
		}
	}
}

func TestPingPongAndClose(t *testing.T) {
	h := startHub(t, nil)
	c := h.dial(t, "alice")
	reader := c.CloseRead(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	// The library waits for an answer for five seconds, no more; TestBadFrames
	// holds that there is one.
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	<-reader.Done()
	eventually(t, "the slot is free", func() bool { return h.open.Load() == 0 })
	if n := h.Stats().Closes["client"]; n != 1 {
		t.Errorf("%d closes by the client", n)
	}
}

func TestExpiry(t *testing.T) {
	h := startHub(t, nil)
	c := h.dial(t, "alice:1s")
	if code := c.ends(); code != 4200 {
		t.Errorf("an expired session ends with %d", code)
	}
}

// silent is for how many seconds nothing was heard of a user's session, -1 when
// there is none.
func (h *testHub) silent(user string) int {
	seconds := -1
	h.call(h.homeOf(user), func(l *loop) {
		if id := l.users.find(h.hash([]byte(user)), []byte(user)); id != 0 {
			seconds = int(l.tick - l.slots.at(id).heard)
		}
	})
	return seconds
}

func TestHeartbeat(t *testing.T) {
	clock := newStillClock()
	h := startHub(t, func(c *Config) { c.Now, c.Heartbeat = clock.now, 2*time.Second })
	raw := h.dialRaw(t, "mute")
	answering := h.dial(t, "lively")
	reader := answering.CloseRead(context.Background())
	for second := range 4 {
		if n := h.Stats().Sessions; n != 2 {
			t.Errorf("%d sessions are left after %d s", n, second)
		}
		clock.move(h, time.Second)
		eventually(t, "a ping is answered", func() bool { return h.silent("lively") == 0 })
	}
	if code := raw.closeCode(); code != 4101 {
		t.Errorf("a silent session ends with %d", code)
	}
	select {
	case <-reader.Done():
		t.Error("a session that answers pings ended")
	default:
	}
}

func TestSlowConsumer(t *testing.T) {
	// Whoever is ended has five seconds to read why: here, as long as it takes.
	h := startHub(t, still)
	slow, quick := h.dialRaw(t, "slow"), h.dial(t, "quick")
	big := event("user.slow", `"`+strings.Repeat("x", 60<<10)+`"`)
	eventually(t, "the slow one is closed", func() bool {
		h.Deliver([]api.Event{big, event("user.quick", `1`)})
		if got := quick.next(); got["subject"] != "user.quick" {
			t.Fatalf("got %v", got)
		}
		return h.Stats().Closes["slow_consumer"] == 1
	})
	// It still reads whole frames to the end, and then why.
	if code := slow.closeCode(); code != 4100 {
		t.Errorf("a slow session ends with %d", code)
	}
	eventually(t, "nothing waits for it any more", func() bool { return h.Stats().Outbox == 0 })
}

func TestBroadcastInSlices(t *testing.T) {
	// Those who are read last must not be taken for dead until then.
	h := startHub(t, func(c *Config) { c.Heartbeat = time.Hour })
	const n, events = 700, 40
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = h.dial(t, fmt.Sprintf("u%d", i))
	}
	for i := range events {
		h.Deliver([]api.Event{event("broadcast", fmt.Sprint(i)), event("user.u5", `"mine"`)})
	}
	for i, c := range clients {
		next, mine := 0, 0
		for next < events || i == 5 && mine < events {
			got := c.next()
			if got["subject"] == "user.u5" {
				mine++
				continue
			}
			if got["data"] != float64(next) {
				t.Fatalf("client %d got %v, want %d", i, got, next)
			}
			next++
		}
	}
}

func TestDrain(t *testing.T) {
	h := startHub(t, nil)
	clients := make([]*client, 50)
	for i := range clients {
		clients[i] = h.dial(t, fmt.Sprintf("u%d", i))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		h.Drain(ctx, 500*time.Millisecond, nil)
		close(done)
	}()
	for _, c := range clients {
		if got := c.next(); got["type"] != "drain" {
			t.Errorf("got %v", got)
		}
		if code := c.ends(); code != websocket.StatusGoingAway {
			t.Errorf("closed with %d", code)
		}
	}
	<-done
	if n := h.open.Load(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	if _, err := net.Dial("tcp", h.addr); err == nil {
		t.Error("a drained gateway still accepts")
	}
}

// rawClient speaks the bytes itself, so that it can misbehave.
type rawClient struct {
	net.Conn
	r  *bufio.Reader
	tb testing.TB
}

func (h *testHub) connect(tb testing.TB) *rawClient {
	tb.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	// Of all that the test does with it; some read much.
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		tb.Fatal(err)
	}
	return &rawClient{conn, bufio.NewReader(conn), tb}
}

const goodKey = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

func upgradeHead(token string) string {
	return "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\n" + goodKey + "Authorization: Bearer " + token + "\r\n\r\n"
}

func (h *testHub) dialRaw(tb testing.TB, token string) *rawClient {
	tb.Helper()
	return h.dialRawWith(tb, token, "")
}

func (h *testHub) dialRawWith(tb testing.TB, token, query string) *rawClient {
	tb.Helper()
	c := h.connect(tb)
	c.write("GET /v1/ws" + query + strings.TrimPrefix(upgradeHead(token), "GET /v1/ws"))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		tb.Fatalf("status %d", resp.StatusCode)
	}
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		tb.Fatalf("accept is %q", got)
	}
	return c
}

func (c *rawClient) write(s string) {
	c.tb.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		c.tb.Fatal(err)
	}
}

// closeCode reads frames until a close frame and returns its code, 0 for none
// in it and -1 for an end without one.
func (c *rawClient) closeCode() int {
	c.tb.Helper()
	for {
		head := make([]byte, 2)
		if _, err := readFull(c.r, head); err != nil {
			return -1
		}
		n := int(head[1])
		if n == 126 {
			ext := make([]byte, 2)
			if _, err := readFull(c.r, ext); err != nil {
				return -1
			}
			n = int(ext[0])<<8 | int(ext[1])
		}
		payload := make([]byte, n)
		if _, err := readFull(c.r, payload); err != nil {
			return -1
		}
		if head[0] == 0x88 {
			if n < 2 {
				return 0
			}
			return int(payload[0])<<8 | int(payload[1])
		}
	}
}

func readFull(r *bufio.Reader, b []byte) (int, error) {
	for n := 0; n < len(b); {
		k, err := r.Read(b[n:])
		if err != nil {
			return n, err
		}
		n += k
	}
	return len(b), nil
}

// masked is a client's frame.
func masked(first byte, payload string) string {
	b := []byte{first, 0x80 | byte(len(payload)), 1, 2, 3, 4}
	if len(payload) >= 126 {
		b = []byte{first, 0x80 | 126, byte(len(payload) >> 8), byte(len(payload)), 1, 2, 3, 4}
	}
	for i := range len(payload) {
		b = append(b, payload[i]^byte(i&3+1))
	}
	return string(b)
}

func TestBadFrames(t *testing.T) {
	// A flood is so many frames in one second.
	h := startHub(t, still)
	for _, tc := range []struct {
		name string
		send string
		code int
	}{
		{"not masked", "\x81\x02{}", 1002},
		{"reserved bit", masked(0xc1, "{}"), 1002},
		{"reserved opcode", masked(0x83, "{}"), 1002},
		{"continuation of nothing", masked(0x80, "{}"), 1002},
		{"text inside a message", masked(0x01, "{") + masked(0x81, "}"), 1002},
		{"fragmented ping", masked(0x09, ""), 1002},
		{"long ping", masked(0x89, strings.Repeat("x", 126)), 1002},
		{"binary", masked(0x82, "{}"), 1003},
		{"bad UTF-8", masked(0x81, "\"\xff\""), 1007},
		{"too large", masked(0x81, strings.Repeat("x", 4097)), 1009},
		{"too large in fragments", masked(0x01, strings.Repeat("x", 4000)) + masked(0x80, strings.Repeat("x", 97)), 1009},
		{"claims 200 GB", "\x81\xff\x00\x00\x00\x2e\x90\xed\xd0\x00\x01\x02\x03\x04", 1009},
		{"claims a negative length", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04", 1002},
		{"flood", strings.Repeat(masked(0x89, "x"), 3000), 1008},
		{"close", masked(0x88, "\x03\xe8bye"), 1000},
		{"close with an app's code", masked(0x88, "\x0f\xa0"), 4000},
		{"close without a code", masked(0x88, ""), 0},
		{"close with half a code", masked(0x88, "\x03"), 1002},
		{"close with 1005", masked(0x88, "\x03\xed"), 1002},
		{"close with bad UTF-8", masked(0x88, "\x03\xe8\xff"), 1007},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := h.dialRaw(t, "alice")
			c.write(tc.send)
			if code := c.closeCode(); code != tc.code {
				t.Errorf("ends with %d, want %d", code, tc.code)
			}
		})
	}
	eventually(t, "all are gone", func() bool { return h.open.Load() == 0 })
}

func TestFramesInPieces(t *testing.T) {
	h := startHub(t, still)
	// The first frames come in the segment of the handshake.
	c := h.connect(t)
	ping := masked(0x81, `{"type":"ping","ref":"early"}`)
	c.write(upgradeHead("alice") + ping[:len(ping)/2])
	c.write(ping[len(ping)/2:])
	late := masked(0x01, `{"type":`) + masked(0x89, "in between") + masked(0x80, `"ping","ref":"late"}`)
	for i := range len(late) {
		c.write(late[i : i+1])
	}
	if _, err := http.ReadResponse(c.r, nil); err != nil {
		t.Fatal(err)
	}
	c.write(masked(0x88, "\x03\xe8"))
	var all strings.Builder
	b := make([]byte, 4096)
	for {
		n, err := c.r.Read(b)
		all.Write(b[:n])
		if err != nil {
			break
		}
	}
	for _, want := range []string{`"ref":"early"`, "in between", `"ref":"late"`} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no %s in %q", want, all.String())
		}
	}
}
