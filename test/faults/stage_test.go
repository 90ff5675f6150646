//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"pushgate/test/servers"
)

const streamName = "PUSH"

// eventually fails the test when a condition does not come true.
func eventually(t *testing.T, what string, holds func(context.Context) bool) {
	t.Helper()
	if err := servers.Eventually(t.Context(), patience, what, holds); err != nil {
		t.Fatal(err)
	}
}

// startNATS starts a server that lives as long as the test.
func startNATS(t *testing.T, args ...string) *servers.NATS {
	t.Helper()
	n, err := programs.NewNATS(t.TempDir(), "n1", args...)
	if err != nil {
		t.Fatal(err)
	}
	start(t, &n.Process)
	return n
}

func start(t *testing.T, p *servers.Process) {
	t.Helper()
	t.Cleanup(func() {
		if err := p.End(os.Kill); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			b, _ := os.ReadFile(p.Log)
			t.Logf("%s wrote:\n%s", p.Name, b[max(0, len(b)-8000):])
		}
	})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// durable are the settings of a gateway with a stream.
var durable = []string{"GATEWAY_DURABLE_STREAM=" + streamName, "GATEWAY_DURABLE_CREATE=true"}

// startGateway starts one that lives as long as the test, and drains then.
func startGateway(t *testing.T, natsURL string, settings ...string) *gateway {
	t.Helper()
	g := newGateway(t, natsURL, settings...)
	start(t, &g.Process)
	if slices.Contains(settings, durable[0]) {
		g.follows(t)
	}
	return g
}

// follows waits until the gateway knows its stream. Where NATS is slow for ten
// seconds it is ready without, and who connects then gets nothing of what is
// stored until it does. An answered poll is no session that was closed.
func (g *gateway) follows(t *testing.T) {
	t.Helper()
	token := token(t, "first")
	eventually(t, "the gateway follows the stream", func(ctx context.Context) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Addr+"/v1/events?wait=0s", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		var answer struct{ Cursor string }
		return json.NewDecoder(resp.Body).Decode(&answer) == nil && answer.Cursor != ""
	})
}

// gateway is asked about itself over its admin listeners.
type gateway struct{ *servers.Gateway }

func newGateway(t *testing.T, natsURL string, settings ...string) *gateway {
	t.Helper()
	g, err := programs.NewGateway(t.TempDir(), "g1", natsURL, settings...)
	if err != nil {
		t.Fatal(err)
	}
	return &gateway{g}
}

// logged is what it has written so far.
func (g *gateway) logged(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(g.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// answer is what one of the admin pages says. A gateway that is slow to answer
// is asked until it does, one that has ended fails the test.
func (g *gateway) answer(t *testing.T, page string) (status int, body []byte) {
	t.Helper()
	eventually(t, "the gateway answers "+page, func(ctx context.Context) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Admin+page, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			status = resp.StatusCode
			body, err = io.ReadAll(resp.Body)
			err = errors.Join(err, resp.Body.Close())
		}
		if err != nil {
			moment, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			if end := g.Exited(moment); moment.Err() == nil {
				t.Fatalf("the gateway has ended: %v", end)
			}
		}
		return err == nil
	})
	return status, body
}

// isReady says what the gateway itself says: that it did not answer at once
// means nothing on a busy machine.
func (g *gateway) isReady(t *testing.T) bool {
	t.Helper()
	status, _ := g.answer(t, "/readyz")
	return status == http.StatusOK
}

func (g *gateway) ready(ctx context.Context) bool {
	return servers.Answers(ctx, "http://"+g.Admin+"/readyz")
}

func (g *gateway) alive(ctx context.Context) bool {
	return servers.Answers(ctx, "http://"+g.Admin+"/livez")
}

// metric adds up the figures of a name, or of a name with its labels.
func (g *gateway) metric(t *testing.T, name string) float64 {
	t.Helper()
	_, b := g.answer(t, "/metrics")
	sum, found := 0.0, false
	for line := range bytes.Lines(b) {
		series, value, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
		if !ok || series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum, found = sum+v, true
	}
	if !found {
		t.Fatalf("the gateway has no %s", name)
	}
	return sum
}

// reconnects is how often NATS came back.
func (g *gateway) reconnects(t *testing.T) float64 {
	t.Helper()
	return g.metric(t, "pushgate_nats_reconnects_total")
}

// keptAll fails the test if any session was closed, by either side.
func (g *gateway) keptAll(t *testing.T) {
	t.Helper()
	if n := g.metric(t, "pushgate_closes_total"); n != 0 {
		t.Errorf("%v sessions were closed", n)
	}
}

// drains ends it as a rollout does, and sees that it ends well.
func (g *gateway) drains(t *testing.T) {
	t.Helper()
	if err := g.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// backend publishes as an app's backend does.
type backend struct {
	nc *nats.Conn
	js jetstream.JetStream
	n  map[string]int // events of each user
}

func newBackend(t *testing.T, url string, options ...nats.Option) *backend {
	t.Helper()
	options = append(options, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	var nc *nats.Conn
	eventually(t, "the backend is connected", func(context.Context) bool {
		var err error
		if nc, err = nats.Connect(url, options...); err != nil {
			t.Logf("%v, trying again", err)
		}
		return err == nil
	})
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &backend{nc: nc, js: js, n: map[string]int{}}
}

// store publishes the next events of a user, numbered from 1, each until
// JetStream has acknowledged it.
func (b *backend) store(t *testing.T, user string, events int) {
	t.Helper()
	for range events {
		b.n[user]++
		m := &nats.Msg{Subject: "push.user." + user, Data: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, b.n[user], strings.Repeat("x", 100))}
		eventually(t, "the event is stored", func(ctx context.Context) bool {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_, err := b.js.PublishMsg(ctx, m, jetstream.WithMsgID(fmt.Sprint(user, "-", b.n[user])))
			return err == nil
		})
	}
}
