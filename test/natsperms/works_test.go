package natsperms

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

// TestPermissions starts the cluster once: it is the slow part.
func TestPermissions(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers and several gateways")
	}
	c := startCluster(t, filepath.Join(folder, "nats.conf"))
	c.define()
	g := c.startGateway(t)
	for _, one := range []struct {
		name string
		test func(*testing.T, *cluster, *gateway)
	}{
		{"Events", testEvents},
		{"History", testHistory},
		{"Acknowledgements", testAcknowledgements},
		{"Control", testControl},
		{"Exact", testExact},
		{"Forbidden", testForbidden},
		{"Forged", testForged},
	} {
		t.Run(one.name, func(t *testing.T) { one.test(t, c, g) })
	}
}

// TestLaptop runs what the Compose file runs.
func TestLaptop(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers and a gateway")
	}
	c := startCluster(t, filepath.Join(laptop, "nats.conf"))
	config, err := filepath.Abs(filepath.Join(laptop, "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	g := c.runGateway(t, "GATEWAY_CONFIG="+config)
	nc, err := nats.Connect(c.url, nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	alice, _ := g.open(t, "alice", "")
	publish(t, nc, "push.user.alice", []byte(`1`))
	alice.event("user.alice", "1")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var stream jetstream.Stream
	eventually(t, "the stream's leader answers", func() bool {
		stream, err = js.Stream(t.Context(), "PUSH")
		return err == nil
	})
	if n := stream.CachedInfo().Config.Replicas; n != 3 {
		t.Errorf("the stream has %d copies", n)
	}
}

// publish stores an event, as a backend does, again under the same id where no
// answer comes, and returns its sequence.
func publish(tb testing.TB, nc *nats.Conn, subject string, data []byte) (seq uint64) {
	tb.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	id := rand.Text()
	eventually(tb, "an event is stored", func() bool {
		ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
		defer cancel()
		ack, err := js.Publish(ctx, subject, data, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(20))
		if err != nil {
			tb.Logf("%s: %v", subject, err)
			return false
		}
		seq = ack.Sequence
		return true
	})
	return seq
}

func testEvents(t *testing.T, c *cluster, g *gateway) {
	backend := c.connect(t, "backend")
	var alice *client
	eventually(t, "the gateway knows the stream", func() bool {
		var welcome frame
		alice, welcome = g.open(t, "alice", "")
		if welcome.Cursor == "" {
			_ = alice.conn.CloseNow()
		}
		return welcome.Cursor != ""
	})
	c.heard(t, "flash.user.alice", true)
	publish(t, backend, "push.user.alice", []byte(`"stored"`))
	if f := alice.event("user.alice", `"stored"`); f.Cursor == "" {
		t.Error("the stored event has no cursor")
	}
	m, err := backend.Request("flash.user.alice", []byte(`"flash"`), patience)
	if err != nil || !strings.Contains(string(m.Data), `"delivered":1`) {
		t.Fatalf("the receipt is %v, %v", m, err)
	}
	if f := alice.event("user.alice", `"flash"`); f.Cursor != "" {
		t.Error("an event that is never stored has a cursor")
	}
}

// testHistory has the gateway read from memory, from any replica and, right
// after it has started, from nothing but the stream.
func testHistory(t *testing.T, c *cluster, g *gateway) {
	backend := c.connect(t, "backend")
	_, welcome := g.open(t, "bob", "")
	const events = 24
	pad := strings.Repeat("x", 8<<10)
	data := func(n int) string { return fmt.Sprintf(`"%d %s"`, n, pad) }
	var last uint64
	for n := range events {
		last = publish(t, backend, "push.user.bob", []byte(data(n)))
	}
	replays := func(g *gateway) {
		t.Helper()
		// That the stream has them all does not say that the gateway does, of
		// whose place a replay knows.
		eventually(t, "the gateway has come to the last event", func() bool {
			has, err := strconv.ParseUint(g.metric("pushgate_stream_sequence"), 10, 64)
			return err == nil && has >= last
		})
		bob := g.resume(t, "bob", welcome.Cursor)
		for n := range events {
			bob.event("user.bob", data(n))
		}
		if f := bob.next(); f.Type != "resumed" || !f.Complete || f.Replayed != events {
			t.Errorf("got %+v", f)
		}
		for from, want := range map[string]int{"last": 1, "start": events} {
			bob.say(fmt.Sprintf(`{"type":"unsubscribe","ref":%q,"subject":"user.bob"}`, from))
			for bob.next().Type != "unsubscribed" {
			}
			bob.say(fmt.Sprintf(`{"type":"subscribe","ref":%q,"subject":"user.bob","from":%[1]q}`, from))
			got := 0
			for f := bob.next(); f.Type != "resumed"; f = bob.next() {
				if f.Type == "error" {
					t.Fatalf("from %s: %+v", from, f)
				}
				if f.Type == "event" {
					got++
				}
			}
			if got != want {
				t.Errorf("from %s come %d events", from, got)
			}
		}
	}
	replays(g)
	// The ring holds 64 KiB, and 192 were missed.
	if n := g.metric("pushgate_history_requests_total"); n == "0" || n == "" {
		t.Errorf("NATS was asked %s times", n)
	}
	replays(c.startGateway(t))
}

func testAcknowledgements(t *testing.T, c *cluster, g *gateway) {
	backend := c.connect(t, "backend")
	acks, err := backend.SubscribeSync("pushgate.ack.*")
	if err != nil {
		t.Fatal(err)
	}
	c.heard(t, "pushgate.ack.carol", true)
	carol, _ := g.open(t, "carol", "device=phone")
	for n := range 2 {
		publish(t, backend, "push.user.carol", fmt.Append(nil, n))
	}
	at := carol.event("user.carol", "0").Cursor
	carol.event("user.carol", "1")
	carol.say(fmt.Sprintf(`{"type":"ack","cursor":%q}`, at))
	m, err := acks.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "pushgate.ack.carol" || !strings.Contains(string(m.Data), at) {
		t.Errorf("on %s comes %s", m.Subject, m.Data)
	}
	lost := "0"
	eventually(t, "the place is kept", func() bool {
		// One that cannot be written in five seconds is lost: whoever comes
		// back, with what it missed, says it again.
		if now := g.metric(`pushgate_acked_places_total{result="failed"}`); now != lost && now != "" {
			lost = now
			carol, _ = g.open(t, "carol", "device=phone&cursor="+url.QueryEscape(at))
			carol.say(fmt.Sprintf(`{"type":"ack","cursor":%q}`, at))
		}
		kept := g.metric(`pushgate_acked_places_total{result="kept"}`)
		return kept != "0" && kept != ""
	})
	// Another gateway looks the place up, and does without it after two seconds.
	other := c.startGateway(t)
	var again *client
	eventually(t, "the place is found", func() bool {
		var welcome frame
		again, welcome = other.open(t, "carol", "device=phone")
		return welcome.Cursor == at
	})
	again.event("user.carol", "1")
}

// answers asks all gateways, and takes that many replies. A node that does not
// know yet that a new gateway on another one listens does not pass the question
// on: it is asked again.
func answers(tb testing.TB, nc *nats.Conn, subject, request string, n int) (all []*nats.Msg) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d gateways answer on %s", n, subject), func() bool {
		inbox := nc.NewInbox()
		sub, err := nc.SubscribeSync(inbox)
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		if err := nc.PublishRequest(subject, inbox, []byte(request)); err != nil {
			tb.Fatal(err)
		}
		all = nil
		for range n {
			m, err := sub.NextMsg(10 * time.Second)
			if err != nil {
				tb.Logf("%s: %v (%v)", subject, err, nc.LastError())
				return false
			}
			all = append(all, m)
		}
		return true
	})
	return all
}

func testControl(t *testing.T, c *cluster, g *gateway) {
	trusted := c.connect(t, "trusted")
	other := c.startGateway(t)
	found := map[string]bool{}
	for _, m := range answers(t, trusted, "$SRV.PING.pushgate", "", 2) {
		var ping micro.Ping
		if err := json.Unmarshal(m.Data, &ping); err != nil || ping.Name != "pushgate" {
			t.Errorf("got %s", m.Data)
		}
		found[ping.ID] = true
	}
	if len(found) != 2 {
		t.Errorf("found are %v", found)
	}

	dave, _ := g.open(t, "dave", "")
	answers(t, trusted, "pushgate.control.disconnect", `{"user":"dave"}`, 2)
	if code := dave.ended(); code != 4000 {
		t.Errorf("dave is disconnected with %d", code)
	}

	onOther, _ := other.open(t, "dave", "")
	old := token(t, "dave")
	// Two seconds are all that storing may take, and this may be a slow machine.
	eventually(t, "both gateways have stored the revocation", func() bool {
		stored := 0
		for _, m := range answers(t, trusted, "pushgate.control.revoke", `{"user":"dave"}`, 2) {
			if strings.Contains(string(m.Data), `"stored":true`) {
				stored++
			}
		}
		return stored == 2
	})
	if code := onOther.ended(); code != 4000 {
		t.Errorf("dave is revoked with %d", code)
	}
	// One that starts now learns it from the bucket, before it is ready, from
	// whichever node; or says that it could not wait.
	c.copied(t, "KV_pushgate_revocations")
	late := c.startGateway(t)
	refused := func() bool {
		_, err := late.dial(t, old, "")
		return err != nil && strings.Contains(err.Error(), fmt.Sprint(http.StatusUnauthorized))
	}
	if !refused() {
		eventually(t, "a revoked token is refused, or the gateway says why it is not", late.wasHasty)
		eventually(t, "a revoked token is refused, late", refused)
	}
}

// testExact has a gateway subscribe to single subjects: who is offline is known
// at once.
func testExact(t *testing.T, c *cluster, g *gateway) {
	g.stop()
	c.heard(t, "flash.user.erin", false)
	exact := c.startGateway(t, "GATEWAY_NATS_INTEREST=exact")
	backend := c.connect(t, "backend")
	erin, _ := exact.open(t, "erin", "")
	c.heard(t, "flash.user.erin", true)
	if m, err := backend.Request("flash.user.erin", []byte(`1`), patience); err != nil || !strings.Contains(string(m.Data), `"delivered":1`) {
		t.Errorf("the receipt is %v, %v", m, err)
	}
	erin.event("user.erin", "1")
	if m, err := backend.Request("flash.user.nobody", []byte(`1`), patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("somebody answers for nobody: %v, %v", m, err)
	}
}
