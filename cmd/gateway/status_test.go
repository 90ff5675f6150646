package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ask gets a page of the admin listener.
func (r *running) ask(method, path string) (status int, header http.Header, body string) {
	r.tb.Helper()
	req, err := http.NewRequest(method, "http://"+r.admin.addr.String()+path, nil)
	if err != nil {
		r.tb.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.tb.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(all)
}

func (r *running) report() *report {
	r.tb.Helper()
	_, _, body := r.ask(http.MethodGet, "/status.json")
	var s report
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		r.tb.Fatalf("%v: %s", err, body)
	}
	return &s
}

func TestStatusPage(t *testing.T) {
	g := startGateway(t)
	for _, path := range []string{"/", "/status.json"} {
		code, header, body := g.ask(http.MethodGet, path)
		if code != http.StatusOK || body == "" {
			t.Errorf("%s: %d", path, code)
		}
		policy := header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Count(policy, "'sha256-") != 2 {
			t.Errorf("%s: its policy is %s", path, policy)
		}
		if header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, header)
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
			if code, _, _ := g.ask(method, path); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
	if code, _, _ := g.ask(http.MethodGet, "/index.html"); code != http.StatusNotFound {
		t.Errorf("what is not there: %d", code)
	}
	// Nothing comes from elsewhere, whatever the policy says.
	page := strings.ReplaceAll(string(statusPage), "http://www.w3.org/2000/svg", "")
	for _, foreign := range []string{"http://", "https://", "src=", "@import", "url("} {
		if strings.Contains(page, foreign) {
			t.Errorf("the page holds %s", foreign)
		}
	}
}

// TestStatusFigures has a gateway do and refuse some of everything.
func TestStatusFigures(t *testing.T) {
	g := setup{nats: startJetStream(t)}.start(t, "GATEWAY_DURABLE_STREAM=PUSH", "GATEWAY_DURABLE_CREATE=true", "GATEWAY_LIMITS_SESSIONS=50")
	alice := g.connect("alice")
	g.connect("bob")
	g.publish("push.user.alice", `1`)
	alice.next()
	refused, err := http.Get("http://" + g.addr.String() + "/v1/events?access_token=nonsense")
	if err != nil {
		t.Fatal(err)
	}
	_ = refused.Body.Close()
	g.hub.DisconnectUser("bob")
	var s *report
	eventually(t, "all of it is reported", func() bool {
		s = g.report()
		return s.Sessions == 1 && len(s.Recent) == 1 && s.Latency.Events == 1 && s.Memory.Session > 50 &&
			len(s.Refusals) == 1 && len(s.Tokens) == 1 && s.Stream != nil && s.Stream.Sequence == 1
	})
	if s.Transports["websocket"] != 1 || s.SessionsLimit != 50 || !s.Ready || !s.NATS.Connected || s.NATS.Room < 1 || len(s.Loops) < 1 {
		t.Errorf("got %+v", s)
	}
	if s.Latency.P50 <= 0 || s.Latency.P50 > s.Latency.P99 {
		t.Errorf("got %+v", s.Latency)
	}
	if s.Stream.Name != "PUSH" || s.Stream.RingEvents != 1 {
		t.Errorf("the stream is %+v", s.Stream)
	}
	one := func(what string, all []tally, name string) {
		t.Helper()
		if len(all) != 1 || all[0].Name != name || all[0].Total != 1 {
			t.Errorf("%s: %v", what, all)
			return
		}
		// The readings reach back to the start, for a minute.
		if s.Uptime < 60 && all[0].Minute != 1 {
			t.Errorf("%s of the last minute: %v", what, all)
		}
	}
	one("endings", s.Endings, "disconnected")
	one("refusals", s.Refusals, "unauthorized")
	one("tokens", s.Tokens, "malformed")
	if e := s.Recent[0]; e.Reason != "disconnected" || e.Code != 4000 || len(e.Session) != 22 || time.Since(e.Time) > time.Hour {
		t.Errorf("the last ending is %+v", e)
	}
	// Rates are those of the last seconds: something must have happened in them.
	eventually(t, "handshakes have a rate", func() bool {
		_ = g.connect("carol").CloseNow()
		return g.report().Rates.Handshakes > 0
	})
	eventually(t, "deliveries have a rate", func() bool {
		g.publish("push.user.alice", `1`)
		return g.report().Rates.Deliveries > 0
	})
	g.draining.Store(true)
	if s := g.report(); s.Ready || s.Reason != "draining" {
		t.Errorf("while it drains: %v %s", s.Ready, s.Reason)
	}
}

// TestStatusKeepsSecrets looks for secrets, tokens, payloads and users.
func TestStatusKeepsSecrets(t *testing.T) {
	nats := startServer(t)
	const password, natsToken = "the-password-of-the-gateway-at-nats", "tail-of-the-user-info-of-the-url"
	url := strings.Replace(nats.ClientURL(), "nats://", "nats://gate:"+natsToken+"@", 1)
	g := setup{nats: nats}.start(t, "GATEWAY_NATS_URL="+url, "GATEWAY_NATS_USER=gate", "GATEWAY_NATS_PASSWORD="+password,
		"GATEWAY_AUTH_ISSUER=https://id.example/<b>bold</b>")
	user := "somebody-with-quite-a-long-name"
	token := g.token(user)
	c, _ := g.dial(token, "")
	payload := "a-payload-that-is-nobody-elses-business"
	g.publish("push.user."+user, `"`+payload+`"`)
	c.next()
	g.hub.DisconnectUser(user)
	eventually(t, "the ending is reported", func() bool { return len(g.report().Recent) == 1 })

	var l leaks
	l.add("the secret", testSecret)
	l.add("the password", password)
	l.add("the URL's password", natsToken)
	l.add("the payload", payload)
	l.add("the user", user)
	for part := range strings.SplitSeq(token, ".") {
		l.add("the token", part)
	}
	for _, path := range []string{"/", "/status.json", "/metrics"} {
		_, _, body := g.ask(http.MethodGet, path)
		if whose, around := l.in(body); whose != "" {
			t.Errorf("%s holds a piece of %s: %q", path, whose, around)
		}
	}
	config := g.report().Config
	if !strings.Contains(config, "hs256_secret: '[redacted]'") || !strings.Contains(config, "<b>bold</b>") {
		t.Errorf("the configuration is\n%s", config)
	}
}

func TestRatesAndTallies(t *testing.T) {
	var r readings
	began := time.Now()
	for i := range 3 * readingsKept {
		one := reading{at: began.Add(time.Duration(i) * readEvery)}
		one.Events = int64(i) * 50
		one.Closes = map[string]int64{"lost": int64(i), "client": 7, "never": 0}
		r.add(one)
	}
	now := r.kept[len(r.kept)-1]
	before, minute := r.since(now.at)
	if now.at.Sub(before.at) != rateOver || now.at.Sub(minute.at) != time.Minute {
		t.Errorf("rates look back %v, tallies %v", now.at.Sub(before.at), now.at.Sub(minute.at))
	}
	if got := ratesOf(&now, &before); got.Events != 10 || got.Handshakes != 0 {
		t.Errorf("the rates are %+v", got)
	}
	want := []tally{{"lost", int64(readingsKept - 1), int64(3*readingsKept - 1)}, {"client", 0, 7}}
	if got := talliesOf(now.Closes, minute.Closes); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("the tallies are %v, want %v", got, want)
	}
	if got := ratesOf(&now, &now); got.Events != 0 {
		t.Errorf("in no time there are %+v", got)
	}
}
