package natsperms

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

const secret = "a secret of thirty-two bytes or so"

// build makes the program as it is released.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "natsperms-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "gateway")
	out, err := exec.Command("go", "build", "-tags", "nodev", "-o", path, "pushgate/cmd/gateway").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return path, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// gateway is a process that runs gateway serve.
type gateway struct {
	tb            testing.TB
	cmd           *exec.Cmd
	listen, admin string        // addresses
	logged        chan struct{} // closed when its log has ended
	mayComplain   bool
	stopped       bool

	mu      sync.Mutex
	grudges []string // warnings, errors, and lines that are no JSON
	hasty   bool     // it became ready without what NATS had to tell first
}

// startGateway runs one as production would.
func (c *cluster) startGateway(tb testing.TB, settings ...string) *gateway {
	tb.Helper()
	return c.runGateway(tb, append([]string{
		"GATEWAY_DURABLE_STREAM=PUSH", "GATEWAY_DURABLE_RING_BYTES=64KiB",
		"GATEWAY_NATS_NKEY_FILE=" + c.file("gateway.nk"), "GATEWAY_NATS_TLS_CA_FILE=" + c.file("ca.pem"),
	}, settings...)...)
}

// runGateway runs one on addresses of its own, and waits until it is ready.
func (c *cluster) runGateway(tb testing.TB, settings ...string) *gateway {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	g := &gateway{tb: tb, logged: make(chan struct{}), cmd: exec.Command(path, "serve")}
	g.cmd.Env = append(os.Environ(),
		"GATEWAY_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_DEBUG_LISTEN=",
		"GATEWAY_AUTH_HS256_SECRET="+secret, "GATEWAY_DRAIN_DELAY=0s", "GATEWAY_DRAIN_WINDOW=0s",
		"GATEWAY_NATS_URL="+c.url,
	)
	g.cmd.Env = append(g.cmd.Env, settings...)
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	g.cmd.Stderr = g.cmd.Stdout
	if err := g.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(g.stop)
	up := make(chan struct{})
	go g.read(out, up)
	select {
	case <-up:
	case <-g.logged:
		tb.Fatalf("the gateway does not start: %q", g.complaints())
	case <-time.After(patience):
		tb.Fatal("the gateway does not start")
	}
	eventually(tb, "the gateway is ready", func() bool { return g.status("/readyz") == http.StatusOK })
	return g
}

// read follows the log: where the gateway listens, and what it complains of.
func (g *gateway) read(out io.Reader, up chan struct{}) {
	defer close(g.logged)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var line struct{ Level, Msg, Listen, Admin string }
		err := json.Unmarshal(lines.Bytes(), &line)
		g.mu.Lock()
		if err != nil || (line.Level == "error" || line.Level == "warn") && !passing(line.Msg) {
			g.grudges = append(g.grudges, lines.Text())
		}
		g.hasty = g.hasty || strings.HasPrefix(line.Msg, stillUnread)
		g.mu.Unlock()
		if line.Msg == "gateway is up" {
			g.listen, g.admin = line.Listen, line.Admin
			close(up)
		}
	}
}

// stillUnread is what a gateway logs that becomes ready before it has read the
// revocations: NATS has not given them in ten seconds.
const stillUnread = "stored revocations could not be read"

// passing tells what a slow machine brings about, and time repairs. Missing
// permissions are errors beside it.
func passing(message string) bool {
	if strings.Contains(message, "trying again") || strings.Contains(message, "connection lost") {
		return true
	}
	for _, late := range []string{
		stillUnread, "stored events could not be read", "a revocation is not stored", "acknowledged places are lost",
		"NATS did not confirm new subscriptions in time",
	} {
		if strings.HasPrefix(message, late) {
			return true
		}
	}
	return false
}

// wasHasty reports whether it has given up waiting for the revocations.
func (g *gateway) wasHasty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hasty
}

func (g *gateway) complaints() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.grudges
}

// stop ends it, and has the test fail if it complained of anything.
func (g *gateway) stop() {
	if g.stopped {
		return
	}
	g.stopped = true
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(patience, func() { _ = g.cmd.Process.Kill() })
	<-g.logged
	err := g.cmd.Wait()
	late.Stop()
	if err != nil {
		g.tb.Errorf("the gateway ended with %v", err)
	}
	if all := g.complaints(); len(all) > 0 && !g.mayComplain {
		g.tb.Errorf("the gateway complains:\n%s", strings.Join(all, "\n"))
	}
}

func (g *gateway) get(path string) (int, string) {
	response, err := http.Get("http://" + g.admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

func (g *gateway) status(path string) int {
	code, _ := g.get(path)
	return code
}

// metric is one sample, as it is written.
func (g *gateway) metric(sample string) string {
	_, page := g.get("/metrics")
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// client is one session.
type client struct {
	tb   testing.TB
	conn *websocket.Conn
}

// frame is what these clients read of any frame.
type frame struct {
	Type, Subject, Cursor, Ref string
	Complete, Replay           bool
	Replayed                   int
	Data                       json.RawMessage
}

func token(tb testing.TB, user string) string {
	tb.Helper()
	now := time.Now()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}).SignedString([]byte(secret))
	if err != nil {
		tb.Fatal(err)
	}
	return signed
}

// dial opens a session. query is as "cursor=C&device=D".
func (g *gateway) dial(tb testing.TB, jwt string, query string) (*client, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	var conn *websocket.Conn
	for {
		var response *http.Response
		var err error
		conn, response, err = websocket.Dial(ctx, "ws://"+g.listen+"/v1/ws?"+query, &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + jwt}},
		})
		if err == nil {
			break
		}
		if response == nil || response.StatusCode != http.StatusRequestTimeout { // we stood still for seconds
			return nil, err
		}
	}
	conn.SetReadLimit(1 << 20)
	tb.Cleanup(func() { _ = conn.CloseNow() })
	return &client{tb, conn}, nil
}

// open is dial and the welcome.
func (g *gateway) open(tb testing.TB, user, query string) (*client, frame) {
	tb.Helper()
	c, err := g.dial(tb, token(tb, user), query)
	if err != nil {
		tb.Fatal(err)
	}
	welcome := c.next()
	if welcome.Type != "welcome" {
		tb.Fatalf("the first frame is %+v", welcome)
	}
	return c, welcome
}

// resume is open with a cursor.
func (g *gateway) resume(tb testing.TB, user, cursor string) *client {
	tb.Helper()
	c, _ := g.open(tb, user, "cursor="+url.QueryEscape(cursor))
	return c
}

func (c *client) read() (f frame, err error) {
	ctx, cancel := context.WithTimeout(c.tb.Context(), patience)
	defer cancel()
	_, b, err := c.conn.Read(ctx)
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(b, &f)
}

func (c *client) next() frame {
	c.tb.Helper()
	f, err := c.read()
	if err != nil {
		c.tb.Fatal(err)
	}
	return f
}

// event reads the next frame, which must be this event.
func (c *client) event(subject, data string) frame {
	c.tb.Helper()
	f := c.next()
	if f.Type != "event" || f.Subject != subject || string(f.Data) != data {
		c.tb.Fatalf("got %+v with %s, want %s with %s", f, f.Data, subject, data)
	}
	return f
}

func (c *client) say(message string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(c.tb.Context(), patience)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
		c.tb.Fatal(err)
	}
}

// settled proves that nothing else waits for the session.
func (c *client) settled() {
	c.tb.Helper()
	c.say(`{"type":"ping","ref":"settled"}`)
	if f := c.next(); f.Type != "pong" {
		c.tb.Fatalf("before the pong comes %+v with %s", f, f.Data)
	}
}

// ended reads the session's end, and returns its close code.
func (c *client) ended() int {
	c.tb.Helper()
	_, err := c.read()
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		c.tb.Fatalf("the session ended with %v", err)
	}
	return int(closed.Code)
}
