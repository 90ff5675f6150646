package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startJetStream runs a real NATS server that keeps what it is told to.
func startJetStream(tb testing.TB) *server.Server {
	tb.Helper()
	return startServerWith(tb, server.Options{Port: server.RANDOM_PORT, JetStream: true, StoreDir: storeDir(tb)})
}

// storeDir is a folder for what a NATS server stores. Goroutines of its own
// write there, and remove, a little longer than it takes to stop.
func storeDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pushgate")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { eventually(tb, dir+" is gone", func() bool { return os.RemoveAll(dir) == nil }) })
	return dir
}

// controlReply is what one gateway answers.
type controlReply struct {
	Gateway      string
	Disconnected int
	Stored       *bool
	Warning      string
}

// control asks all gateways on the running one's NATS, and takes that many
// replies, by gateway.
func (r *running) control(verb, request string, gateways int) map[string]controlReply {
	r.tb.Helper()
	inbox := r.nats.NewInbox()
	sub, err := r.nats.SubscribeSync(inbox)
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := r.nats.PublishRequest("pushgate.control."+verb, inbox, []byte(request)); err != nil {
		r.tb.Fatal(err)
	}
	all := map[string]controlReply{}
	for range gateways {
		m, err := sub.NextMsg(comesWithin)
		if err != nil {
			r.tb.Fatalf("%v after %v", err, all)
		}
		var reply controlReply
		if err := json.Unmarshal(m.Data, &reply); err != nil || reply.Gateway == "" {
			r.tb.Fatalf("reply %q %v", m.Data, m.Header)
		}
		all[reply.Gateway] = reply
	}
	if len(all) != gateways {
		r.tb.Fatalf("%d gateways answered: %v", len(all), all)
	}
	return all
}

func ended(all map[string]controlReply) (n int) {
	for _, r := range all {
		n += r.Disconnected
	}
	return n
}

func TestDisconnectOnEveryGateway(t *testing.T) {
	nats := startServer(t)
	a, b := setup{nats: nats}.start(t), setup{nats: nats}.start(t)
	var alices []*wsClient
	for _, g := range []*running{a, a, b} {
		alices = append(alices, g.connect("alice"))
	}
	bob, welcome := b.dial(aliceToken(`sub="bob"`), "")
	if n := ended(a.control("disconnect", `{"user":"alice"}`, 2)); n != 3 {
		t.Errorf("%d sessions of alice are ended", n)
	}
	for _, c := range alices {
		c.ended(4000, "disconnected by the backend")
	}
	// It ends sessions, not tokens.
	again := a.connect("alice")
	id, _ := welcome["session"].(string)
	if n := ended(a.control("disconnect", fmt.Sprintf(`{"session":%q}`, id), 2)); n != 1 {
		t.Errorf("%d sessions have bob's id", n)
	}
	bob.ended(4000, "disconnected by the backend")
	if n := ended(a.control("disconnect", fmt.Sprintf(`{"session":%q}`, id), 2)); n != 0 {
		t.Errorf("%d sessions still have bob's id", n)
	}
	again.settled()
	for request, want := range map[string]string{
		`{}`: "must name", `{"user":""}`: "empty", `{"user":"alice","session":"x"}`: "", `[]`: "object", `{"User":"alice"}`: "unknown field", `{"user":"a","user":"alice"}`: "twice",
	} {
		m, err := a.nats.Request("pushgate.control.disconnect", []byte(request), comesWithin)
		if err != nil {
			t.Fatal(err)
		}
		if code, text := m.Header.Get("Nats-Service-Error-Code"), m.Header.Get("Nats-Service-Error"); code != "400" || !strings.Contains(text, want) {
			t.Errorf("%s: %s %q", request, code, text)
		}
	}
	again.settled()
}

func TestRevokeOnEveryGateway(t *testing.T) {
	nats := startJetStream(t)
	a, b := setup{nats: nats}.start(t), setup{nats: nats}.start(t)
	now := time.Now().Unix()
	old := aliceToken(fmt.Sprint("iat=", now-60))
	timeless := aliceToken("iat=")
	onA, _ := a.dial(old, "")
	onB, _ := b.dial(timeless, "")
	fresh, _ := b.dial(aliceToken(), "")
	renewed, _ := a.dial(aliceToken(), "")
	bob, _ := a.dial(aliceToken(`sub="bob"`, fmt.Sprint("iat=", now-60)), "")

	request := fmt.Sprintf(`{"user":"alice","issued_before":%d}`, now-30)
	all := a.control("revoke", request, 2)
	// A gateway that hears of it from the bucket first has nothing left to end
	// when it is asked.
	if n := ended(all); n > 2 {
		t.Errorf("%d sessions are ended", n)
	}
	onA.ended(4000, "revoked by the backend")
	onB.ended(4000, "revoked by the backend")
	// What JetStream does not confirm within two seconds is not stored, and to be
	// asked for again.
	eventually(t, "both say that it is stored", func() bool {
		for _, r := range all {
			if r.Stored == nil || !*r.Stored || r.Warning != "" {
				t.Logf("it is not stored yet: %s", r.Warning)
				all = a.control("revoke", request, 2)
				return false
			}
		}
		return true
	})
	fresh.settled()
	bob.settled()
	// A session does not come back to life, nor does a token, with a renewal.
	renewed.say("renew", "ref", "old", "token", old)
	renewed.expect(`{"type":"error","ref":"old","code":"forbidden","message":"The token has been revoked."}`)

	late := setup{nats: nats}.start(t)
	for _, g := range []*running{a, b, late} {
		// One that has waited for them too long is ready without them.
		eventually(t, "revocations are known, and stored", func() bool {
			return g.metric("pushgate_revoked_users") == "1" && g.metric("pushgate_revocations_stored") == "1"
		})
		before := counters(g.page(g.admin.addr, "/metrics"), "pushgate_token_refusals_total")["revoked"]
		for _, token := range []string{old, timeless} {
			got := ask(t, g.addr, wsRequest("/v1/ws", bearerLine(token)))
			if got.status != http.StatusUnauthorized || got.code != "unauthorized" || got.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
				t.Errorf("a revoked token gets %s", got.all)
			}
		}
		if n := counters(g.page(g.admin.addr, "/metrics"), "pushgate_token_refusals_total")["revoked"] - before; n != 2 {
			t.Errorf("%d refusals are counted", n)
		}
		newer, _ := g.dial(aliceToken(), "")
		newer.settled()
	}
	for _, g := range []*running{a, b} {
		if n := g.metric(`pushgate_closes_total{reason="revoked"}`); n != "1" {
			t.Errorf("%s sessions are counted as revoked", n)
		}
	}
	// An earlier time lifts nothing, and goes back to nothing.
	a.control("revoke", `{"user":"alice","issued_before":1}`, 3)
	if got := ask(t, late.addr, wsRequest("/v1/ws", bearerLine(old))); got.status != http.StatusUnauthorized {
		t.Errorf("after a weaker revocation the token gets %d", got.status)
	}
}

func TestRevokeWithoutJetStream(t *testing.T) {
	g := startGateway(t)
	token := g.token("alice")
	alice, _ := g.dial(token, "")
	for _, r := range g.control("revoke", `{"user":"alice"}`, 1) {
		if r.Disconnected != 1 || r.Stored == nil || *r.Stored || !strings.Contains(r.Warning, "not stored") {
			t.Errorf("answers %+v", r)
		}
	}
	alice.ended(4000, "revoked by the backend")
	if got := ask(t, g.addr, wsRequest("/v1/ws", bearerLine(token))); got.status != http.StatusUnauthorized {
		t.Errorf("the revoked token gets %d", got.status)
	}
	if n := g.metric("pushgate_revocations_stored"); n != "0" {
		t.Errorf("revocations are stored: %s", n)
	}
	g.connect("bob").settled()
}
