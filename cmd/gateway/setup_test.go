package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// setup is what a gateway of a test has beside its settings.
type setup struct {
	nats  *server.Server // nil: one of its own
	file  string         // the configuration file's YAML; with it there is no testSecret
	log   *zap.Logger    // nil: none
	cold  bool           // it is not waited for
	hurry chan struct{}  // closed: its drain waits no longer
}

func (s setup) start(tb testing.TB, settings ...string) *running {
	tb.Helper()
	if s.nats == nil {
		s.nats = startServer(tb)
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	in := input{env: []string{
		"GATEWAY_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_DEBUG_LISTEN=127.0.0.1:0",
		"GATEWAY_NATS_URL=" + s.nats.ClientURL(), "GATEWAY_DRAIN_DELAY=0s", "GATEWAY_DRAIN_WINDOW=200ms",
	}}
	if s.file == "" {
		in.env = append(in.env, "GATEWAY_AUTH_HS256_SECRET="+testSecret)
	} else {
		in.file = filepath.Join(tb.TempDir(), "gateway.yaml")
		write(tb, in.file, s.file)
	}
	in.env = append(in.env, settings...)
	cfg, _, err := loadConfig(in)
	if err != nil {
		tb.Fatal(err)
	}
	level := zap.NewAtomicLevel()
	g, err := newGateway(cfg, s.log, &level, nil)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx, s.hurry) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Error(err)
		}
		g.Close()
	})
	nc, err := nats.Connect(s.nats.ClientURL(), nats.Timeout(comesWithin))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	r := &running{g, tb, nc, stop}
	if s.cold {
		return r
	}
	eventually(tb, "the gateway is ready", func() bool { return r.status("/readyz") == http.StatusOK })
	if err := g.bus.Flush(comesWithin); err != nil {
		tb.Fatal(err)
	}
	return r
}

// dialWS opens a WebSocket.
func dialWS(ctx context.Context, url string, o *websocket.DialOptions) (*websocket.Conn, error) {
	for {
		began, status := time.Now(), 0
		conn, resp, err := websocket.Dial(ctx, url, o)
		if resp != nil {
			status = resp.StatusCode
		}
		if err == nil || ctx.Err() != nil || !tooLate(began, status, err) {
			return conn, err
		}
	}
}

// dial opens a session with a token and a query, as "subject=a&subject=b", and
// reads its welcome.
func (r *running) dial(token, query string) (*wsClient, map[string]any) {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	conn, err := dialWS(ctx, "ws://"+r.addr.String()+"/v1/ws?"+query, &websocket.DialOptions{
		Subprotocols: []string{"pushgate.v1"}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	r.tb.Cleanup(func() { _ = conn.CloseNow() })
	c := &wsClient{conn, r.tb}
	welcome := c.next()
	if welcome["type"] != "welcome" {
		r.tb.Fatalf("the first frame is %v", welcome)
	}
	return c, welcome
}

// say sends one control message; members are a list of name and value.
func (c *wsClient) say(kind string, members ...string) {
	c.tb.Helper()
	m := map[string]string{"type": kind}
	for i := 0; i < len(members); i += 2 {
		m[members[i]] = members[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		c.tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, b); err != nil {
		c.tb.Fatal(err)
	}
}

// expect reads the next frame, which must be this JSON.
func (c *wsClient) expect(want string) {
	c.tb.Helper()
	got, err := json.Marshal(c.next())
	if err != nil {
		c.tb.Fatal(err)
	}
	var sorted any
	if err := json.Unmarshal([]byte(want), &sorted); err != nil {
		c.tb.Fatal(err)
	}
	if b, err := json.Marshal(sorted); err != nil || string(b) != string(got) {
		c.tb.Errorf("got  %s\nwant %s", got, b)
	}
}

// settled proves that nothing else waits for the session: the next frame is the
// answer to a ping that goes out now.
func (c *wsClient) settled() {
	c.tb.Helper()
	c.say("ping", "ref", "settled")
	c.expect(`{"type":"pong","ref":"settled"}`)
}

// ended reads on until the session is closed, which must be so.
func (c *wsClient) ended(code websocket.StatusCode, reason string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	for {
		_, b, err := c.Read(ctx)
		if err == nil {
			c.tb.Errorf("before the end comes %s", b)
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != code || !strings.Contains(closed.Reason, reason) {
			c.tb.Errorf("ended with %v, want %d %s", err, code, reason)
		}
		return
	}
}
