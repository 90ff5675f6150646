package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// startDurable runs a gateway with a stored stream on a NATS server.
func startDurable(tb testing.TB, s *server.Server, settings ...string) *running {
	tb.Helper()
	r := setup{nats: s}.start(tb, append([]string{"GATEWAY_DURABLE_STREAM=PUSH", "GATEWAY_DURABLE_CREATE=true"}, settings...)...)
	// One that has waited for it too long is ready without it.
	eventually(tb, "the stream is known", func() bool { return r.bus.Stats().Stream.Looks > 0 })
	return r
}

// store publishes an event to the stream and returns its place there, which is
// behind all that was published on this connection before: NATS takes it from a
// connection before it stores it.
func (r *running) store(subject, data string) (seq uint64) {
	r.tb.Helper()
	js, err := r.nats.JetStream(nats.MaxWait(comesWithin))
	if err != nil {
		r.tb.Fatal(err)
	}
	ack, err := js.Publish(subject, []byte(data))
	if err != nil {
		r.tb.Fatal(err)
	}
	return ack.Sequence
}

// has waits until the gateway has everything up to a place in the stream: until
// then a replay ends before it, and the rest comes live.
func (r *running) has(seq uint64) {
	r.tb.Helper()
	eventually(r.tb, fmt.Sprint("the gateway has event ", seq), func() bool { return r.bus.Stats().Stream.Last >= seq })
}

// comeBack connects with a query and reads the welcome.
func (r *running) comeBack(token, query string) (*wsClient, map[string]any) {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	conn, err := dialWS(ctx, "ws://"+r.addr.String()+"/v1/ws?"+query, &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	r.tb.Cleanup(func() { _ = conn.CloseNow() })
	c := &wsClient{conn, r.tb}
	return c, c.next()
}

// data reads so many events and returns what they hold.
func (c *wsClient) data(n int) (all []string, cursor string) {
	c.tb.Helper()
	for range n {
		m := c.next()
		if m["type"] != "event" {
			c.tb.Fatalf("got %v after %v", m, all)
		}
		all = append(all, fmt.Sprint(m["data"]))
		cursor, _ = m["cursor"].(string)
	}
	return all, cursor
}

// TestResumeAcrossGateways: a client goes from one gateway to another, also to
// one that has just started, and loses nothing.
func TestResumeAcrossGateways(t *testing.T) {
	for _, ring := range []string{"64MiB", "64KiB"} {
		for _, interest := range []string{"wildcard", "exact"} {
			t.Run(ring+" "+interest, func(t *testing.T) {
				s := startJetStream(t)
				settings := []string{"GATEWAY_DURABLE_RING_BYTES=" + ring, "GATEWAY_NATS_INTEREST=" + interest}
				one := startDurable(t, s, settings...)
				token := one.token("alice")
				c, welcome := one.comeBack(token, "")
				if welcome["cursor"] == nil {
					t.Fatalf("the welcome is %v", welcome)
				}
				one.publish("push.user.alice", "1")
				one.publish("flash.user.alice", `"flash"`)
				one.publish("push.broadcast", "2")
				seen := map[string]bool{}
				var cursor string
				for range 3 {
					m := c.next()
					seen[fmt.Sprint(m["data"])] = true
					if at, ok := m["cursor"].(string); ok {
						cursor = at
					} else if m["data"] != "flash" {
						t.Errorf("a stored event has no cursor: %v", m)
					}
				}
				if len(seen) != 3 {
					t.Errorf("got %v", seen)
				}
				_ = c.CloseNow()
				const missed = 400 // more than the small ring holds
				for i := range missed {
					one.publish("push.user.alice", fmt.Sprint(10+i))
					one.publish("push.user.bob", `"not alice's"`)
				}
				one.publish("flash.user.alice", `"nobody is there"`)
				last := one.store("push.user.bob", `"the last one"`)
				two := startDurable(t, s, settings...)
				for _, g := range []*running{two, one} {
					g.has(last)
					c, welcome := g.comeBack(token, "cursor="+cursor)
					if welcome["cursor"] != nil {
						t.Errorf("the welcome is %v", welcome)
					}
					got, _ := c.data(missed)
					for i := range got {
						if got[i] != fmt.Sprint(10+i) {
							t.Fatalf("event %d is %s", i, got[i])
						}
					}
					if m := c.next(); m["type"] != "resumed" || m["complete"] != true || m["replayed"] != float64(missed) {
						t.Errorf("got %v", m)
					}
					_ = c.CloseNow()
				}
				if asked := two.metric("pushgate_history_requests_total"); ring == "64KiB" && asked == "0" {
					t.Error("the ring held everything")
				}
			})
		}
	}
}

// startPatiently has gateways wait for NATS as long as it takes, where it is
// tested what they wait for.
func startPatiently(tb testing.TB) {
	before := startPatience
	startPatience = comesWithin
	tb.Cleanup(func() { startPatience = before })
}

// TestStreamRefused: serve does not start with a stream that is less than it
// must be, and says what is wrong with it.
func TestStreamRefused(t *testing.T) {
	startPatiently(t)
	for name, tc := range map[string]struct {
		stream *jetstream.StreamConfig
		env    []string
		want   []string
	}{
		"missing": {nil, []string{"GATEWAY_DURABLE_CREATE=false"}, []string{"PUSH", "durable.create"}},
		"no republish, no direct get": {
			&jetstream.StreamConfig{Name: "PUSH", Subjects: []string{"push.>"}}, nil, []string{"PUSH", "republish", "pushed.>", "allow_direct", "nats stream"},
		},
		"one message a subject": {&jetstream.StreamConfig{
			Name: "PUSH", Subjects: []string{"push.>"}, AllowDirect: true, MaxMsgsPerSubject: 1,
			RePublish: &jetstream.RePublish{Source: "push.>", Destination: "pushed.>"},
		}, nil, []string{"PUSH", "max_msgs_per_subject"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startJetStream(t)
			if tc.stream != nil {
				nc, err := nats.Connect(s.ClientURL(), nats.Timeout(comesWithin))
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				js, err := jetstream.New(nc)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
				defer cancel()
				if _, err := js.CreateStream(ctx, *tc.stream); err != nil {
					t.Fatal(err)
				}
			}
			cfg, _, err := loadConfig(input{env: append([]string{
				"GATEWAY_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_DEBUG_LISTEN=127.0.0.1:0",
				"GATEWAY_NATS_URL=" + s.ClientURL(), "GATEWAY_AUTH_HS256_SECRET=" + testSecret, "GATEWAY_DURABLE_STREAM=PUSH", "GATEWAY_DURABLE_CREATE=true",
			}, tc.env...)})
			if err != nil {
				t.Fatal(err)
			}
			level := zap.NewAtomicLevel()
			g, err := newGateway(cfg, zap.NewNop(), &level, nil)
			if err == nil {
				g.Close()
				t.Fatal("it starts")
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q says nothing of %s", err, part)
				}
			}
		})
	}
}

// TestHistoryThatIsGone: trimmed, purged or made anew, it is always said.
func TestHistoryThatIsGone(t *testing.T) {
	s := startJetStream(t)
	g := startDurable(t, s)
	token := g.token("alice")
	nc, err := nats.Connect(s.ClientURL(), nats.Timeout(comesWithin))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*comesWithin)
	defer cancel()
	c, _ := g.comeBack(token, "")
	for i := range 5 {
		g.publish("push.user.alice", fmt.Sprint(i))
	}
	_, cursor := c.data(5)
	first := strings.Split(cursor, ".")[0] + ".1"
	_ = c.CloseNow()

	// Purged: who starts now has nothing before it.
	stream, err := js.Stream(ctx, "PUSH")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	late := startDurable(t, s)
	c, _ = late.comeBack(token, "cursor="+first)
	if m := c.next(); m["type"] != "resumed" || m["complete"] != false {
		t.Errorf("purged: %v", m)
	}
	// The one that missed nothing resumes completely.
	c, _ = late.comeBack(token, "cursor="+cursor)
	if m := c.next(); m["type"] != "resumed" || m["complete"] != true || m["replayed"] != 0.0 {
		t.Errorf("nothing missed: %v", m)
	}

	// Made anew, while a client is connected and another is away. A gateway that
	// looks just then makes it itself.
	connected, _ := g.comeBack(token, "")
	if err := js.DeleteStream(ctx, "PUSH"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "PUSH", Subjects: []string{"push.>"}, AllowDirect: true, DenyDelete: true,
		RePublish: &jetstream.RePublish{Source: "push.>", Destination: "pushed.>"},
	}); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		t.Fatal(err)
	}
	for i := range 8 {
		g.publish("push.user.alice", fmt.Sprint(100+i))
	}
	if m := connected.next(); m["type"] != "resumed" || m["complete"] != false {
		t.Errorf("made anew, connected: %v", m)
	}
	if got, _ := connected.data(8); got[0] != "100" || got[7] != "107" {
		t.Errorf("made anew, connected: %v", got)
	}
	c, _ = g.comeBack(token, "cursor="+cursor)
	if m := c.next(); m["type"] != "resumed" || m["complete"] != false || m["cursor"] == cursor {
		t.Errorf("made anew, away: %v", m)
	}
}

// TestNATSRestartLosesNothingStored: clients stay connected and get, in order,
// what is published when the server is back.
func TestNATSRestartLosesNothingStored(t *testing.T) {
	options := server.Options{Port: heldAddr(t).Port, JetStream: true, StoreDir: storeDir(t)}
	s := startServerWith(t, options)
	g := startDurable(t, s)
	c, _ := g.comeBack(g.token("alice"), "")
	g.publish("push.user.alice", "1")
	if got, _ := c.data(1); got[0] != "1" {
		t.Fatalf("got %v", got)
	}
	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "the gateway notices", func() bool { return g.metric("pushgate_nats_connected") == "0" })
	s = startServerWith(t, options)
	nc, err := nats.Connect(s.ClientURL(), nats.Timeout(comesWithin))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream(nats.MaxWait(comesWithin))
	if err != nil {
		t.Fatal(err)
	}
	// At once, before the gateway is back.
	for i := range 50 {
		if _, err := js.Publish("push.user.alice", fmt.Append(nil, 2+i)); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := c.data(50)
	for i := range got {
		if got[i] != fmt.Sprint(2+i) {
			t.Fatalf("event %d is %s", i, got[i])
		}
	}
}

// TestReceiptsAndAcks: a backend hears at once who got a flash event, and later
// what was acknowledged; a device that has lost its cursor begins there.
func TestReceiptsAndAcks(t *testing.T) {
	s := startJetStream(t)
	one, two := startDurable(t, s), startDurable(t, s)
	acks, err := one.nats.SubscribeSync("pushgate.ack.*")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := one.comeBack(one.token("alice"), "device=phone")
	b, _ := two.comeBack(two.token("alice"), "")
	inbox, err := one.nats.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(subject string) {
		t.Helper()
		if err := one.nats.PublishRequest(subject, inbox.Subject, []byte(`"typing"`)); err != nil {
			t.Fatal(err)
		}
	}
	ask("flash.user.bob") // nobody answers for nobody
	ask("flash.user.alice")
	gateways := map[string]bool{}
	for range 2 {
		m, err := inbox.NextMsg(comesWithin)
		if err != nil {
			t.Fatal(err)
		}
		var receipt struct {
			Gateway   string
			Delivered int
		}
		if err := json.Unmarshal(m.Data, &receipt); err != nil || receipt.Delivered != 1 {
			t.Errorf("got %s, %v", m.Data, err)
		}
		gateways[receipt.Gateway] = true
	}
	if len(gateways) != 2 {
		t.Errorf("receipts came from %v", gateways)
	}
	a.data(1)
	b.data(1)
	// JetStream's own answer is the only one to what is stored.
	ask("push.user.alice")
	if m, err := inbox.NextMsg(comesWithin); err != nil || !strings.Contains(string(m.Data), `"seq":1`) {
		t.Errorf("got %v, %v", m, err)
	}
	if m, err := inbox.NextMsg(300 * time.Millisecond); err == nil {
		t.Errorf("got %s as well", m.Data)
	}
	_, cursor := a.data(1)
	if err := a.Write(context.Background(), websocket.MessageText, []byte(`{"type":"ack","cursor":"`+cursor+`"}`)); err != nil {
		t.Fatal(err)
	}
	m, err := acks.NextMsg(comesWithin)
	if err != nil {
		t.Fatal(err)
	}
	var ack struct {
		User, Device, Session, Cursor string
		Seq                           int
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil || m.Subject != "pushgate.ack.alice" || ack.User != "alice" ||
		ack.Device != "phone" || len(ack.Session) != 22 || ack.Cursor != cursor || ack.Seq != 1 {
		t.Errorf("got %s on %s, %v", m.Data, m.Subject, err)
	}
	_ = a.CloseNow()
	// What NATS does not take within five seconds is lost: then she says it again.
	places := func(result string) string { return one.metric(`pushgate_acked_places_total{result="` + result + `"}`) }
	lost := "0"
	eventually(t, "the place is kept", func() bool {
		if n := places("failed"); n != lost {
			lost = n
			again, _ := one.comeBack(one.token("alice"), "device=phone&cursor="+cursor)
			again.next() // resumed
			again.say("ack", "cursor", cursor)
			again.say("ping")
			again.next() // the pong: the gateway has both
			_ = again.CloseNow()
		}
		return places("kept") != "0"
	})
	two.has(one.store("push.user.alice", "2"))
	// A place that is not found within two seconds is none.
	var c *wsClient
	eventually(t, "the device goes on from where it was", func() bool {
		if c != nil {
			_ = c.CloseNow()
		}
		var welcome map[string]any
		c, welcome = two.comeBack(two.token("alice"), "device=phone")
		return welcome["cursor"] == cursor
	})
	if got, _ := c.data(1); got[0] != "2" {
		t.Errorf("got %v", got)
	}
	if m := c.next(); m["type"] != "resumed" || m["complete"] != true {
		t.Errorf("got %v", m)
	}
}
