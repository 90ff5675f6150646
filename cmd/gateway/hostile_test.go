package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// attempt is one request and the exact answer to it.
type attempt struct {
	name  string
	gate  string // which gateway
	token string // sent as a bearer of a handshake, unless there is a request
	raw   string // the whole request

	status int
	code   string // of the refusal
	reason string // the counter of refused tokens that moves, if one does
	user   string // in the welcome
	page   string // the Origin that may read the answer
}

// The outcomes, as rows say them. reason is empty where the token was not looked
// at, or there was none.
func (a attempt) welcome(user string) attempt {
	a.status, a.user = http.StatusSwitchingProtocols, user
	return a
}

func (a attempt) refused(status int, code, reason string) attempt {
	a.status, a.code, a.reason = status, code, reason
	return a
}

func (a attempt) unauthorized(reason string) attempt {
	return a.refused(http.StatusUnauthorized, "unauthorized", reason)
}

func (a attempt) forbidden(reason string) attempt {
	return a.refused(http.StatusForbidden, "forbidden", reason)
}

func (a attempt) origin() attempt { return a.refused(http.StatusForbidden, "origin", "") }

func (a attempt) malformed() attempt { return a.refused(http.StatusBadRequest, "malformed", "") }

// readable says that a page may read the answer.
func (a attempt) readable(by string) attempt {
	a.page = by
	return a
}

func (a *attempt) request() string {
	if a.raw != "" {
		return a.raw
	}
	return wsRequest("/v1/ws", bearerLine(a.token))
}

// siege is the gateways of the hostile run, the keys that count there, and all
// that they were heard to say.
type siege struct {
	gates map[string]*running
	log   *logBuffer

	rsa     *rsa.PrivateKey
	ec      *ecdsa.PrivateKey
	rsaPEM  string
	fetched *ecdsa.PrivateKey // published by the issuer blue, as k1

	bait     string       // a URL in tokens, which nobody may follow
	followed atomic.Int64 // who did

	heard   bytes.Buffer       // answers
	tallied map[string]tallies // after the attempt before
}

const (
	redSecret   = "red's own secret, 32 bytes or more"
	greenSecret = "green's own secret, 32 bytes and more"
	app         = "https://app.example"
)

func laySiege(t *testing.T) *siege {
	t.Helper()
	s := &siege{gates: map[string]*running{}, tallied: map[string]tallies{}, log: new(logBuffer), ec: newEC(t), fetched: newEC(t)}
	var err error
	if s.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	bait := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.followed.Add(1) }))
	t.Cleanup(bait.Close)
	s.bait = bait.URL
	published := serveKeys(t, jwk(t, &s.fetched.PublicKey, "k1"))

	nats := startServer(t)
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), s.log, zap.DebugLevel)
	gate := func(name, file string, settings ...string) {
		s.gates[name] = setup{nats: nats, file: file, log: zap.New(core).Named(name)}.start(t, settings...)
	}
	gate("one", "", "GATEWAY_AUTH_ORIGINS="+app, "GATEWAY_AUTH_ISSUER=https://id.example", "GATEWAY_AUTH_AUDIENCE=push",
		"GATEWAY_LIMITS_SUBJECTS=4")
	var files []string
	files, s.rsaPEM = publicPEM(t, &s.rsa.PublicKey, &s.ec.PublicKey)
	gate("pem", "", "GATEWAY_AUTH_HS256_SECRET=", "GATEWAY_AUTH_PUBLIC_KEY_FILES="+strings.Join(files, ","))
	gate("nested", "", "GATEWAY_SUBSCRIPTIONS=user.{sub},team.{org.id},room.{rooms}", "GATEWAY_AUTH_TOKEN_BYTES=32KiB")
	gate("cookie", "", "GATEWAY_AUTH_CARRIERS=header,cookie", "GATEWAY_AUTH_COOKIE_NAME=push", "GATEWAY_AUTH_ORIGINS="+app)
	gate("many", fmt.Sprintf(`
subscriptions: ["{issuer}.user.{sub}"]
auth:
  issuers:
    - {name: red, issuer: "https://red.example", hs256_secret: %q, grant_ceiling: ["{issuer}.rooms.>"]}
    - {name: green, issuer: "https://green.example", hs256_secret: %q}
    - {name: blue, issuer: "https://blue.example", jwks_url: %q}
`, redSecret, greenSecret, published.URL))
	return s
}

var statusLine = regexp.MustCompile(`HTTP/1\.1 \d{3} `)

// tallies are the counters that an attempt can move.
type tallies struct{ reasons, results map[string]int }

func (s *siege) tally(gate string) tallies {
	g := s.gates[gate]
	page := g.page(g.admin.addr, "/metrics")
	return tallies{counters(page, "pushgate_token_refusals_total"), counters(page, "pushgate_handshakes_total")}
}

// try makes one attempt and compares everything about its answer.
func (s *siege) try(t *testing.T, a *attempt) {
	g := s.gates[a.gate]
	want, ok := s.tallied[a.gate]
	if !ok {
		want = s.tally(a.gate)
	}
	got := ask(t, g.addr, a.request())
	s.heard.WriteString(got.all)
	if got.status != a.status || got.code != a.code {
		t.Errorf("answered %d %q, want %d %q: %s", got.status, got.code, a.status, a.code, got.all)
	}
	if n := len(statusLine.FindAllString(got.all, -1)); n != 1 {
		t.Errorf("%d answers to one request: %q", n, got.all)
	}
	if user, _ := got.welcome["user"].(string); user != a.user {
		t.Errorf("welcome %v, want user %q", got.welcome, a.user)
	}
	challenge := ""
	if a.status == http.StatusUnauthorized {
		challenge = "Bearer"
		if a.reason != "" {
			challenge += ` error="invalid_token"`
		}
	}
	if c := got.header.Get("WWW-Authenticate"); c != challenge {
		t.Errorf("the challenge is %q, want %q", c, challenge)
	}
	s.checkCORS(t, a, got.header)

	// One counter of each kind moves, and none but that.
	if a.reason != "" {
		want.reasons[a.reason]++
	}
	switch {
	case a.status == http.StatusSwitchingProtocols:
		want.results["accepted"]++
	case a.code != "":
		want.results[a.code]++
	}
	now := s.tally(a.gate)
	want.results["timeout"] = now.results["timeout"] // ask has asked again
	if !maps.Equal(now.reasons, want.reasons) {
		t.Errorf("refused tokens are %v, want %v", now.reasons, want.reasons)
	}
	if !maps.Equal(now.results, want.results) {
		t.Errorf("handshakes are %v, want %v", now.results, want.results)
	}
	s.tallied[a.gate] = now
}

// checkCORS compares what a page may read. A 101 has no such headers: browsers
// look for none.
func (s *siege) checkCORS(t *testing.T, a *attempt, h http.Header) {
	t.Helper()
	want := map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "", "Access-Control-Expose-Headers": "", "Vary": ""}
	if a.page != "" {
		want["Access-Control-Allow-Origin"], want["Vary"] = a.page, "Origin"
		want["Access-Control-Expose-Headers"] = "Retry-After, WWW-Authenticate"
		if a.gate == "cookie" {
			want["Access-Control-Allow-Credentials"] = "true"
		}
	}
	for name, value := range want {
		if got := h.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

// TestHostile makes every attempt, and then looks for the tokens in everything
// that the gateways said.
func TestHostile(t *testing.T) {
	s := laySiege(t)
	var all []attempt
	for _, some := range [][]attempt{
		s.signatures(t), s.headers(t), s.claims(), s.templates(), s.forms(), s.issuers(t),
		s.carriers(), s.subjects(), s.origins(), s.cookies(), s.heads(),
	} {
		all = append(all, some...)
	}
	names, good := map[string]bool{}, map[string]int{}
	for _, a := range all {
		if name := a.gate + " " + a.name; names[name] {
			t.Errorf("two rows are called %s", name)
		} else {
			names[name] = true
		}
		if a.status == http.StatusSwitchingProtocols {
			good[a.gate]++
		}
		t.Run(a.gate+"/"+a.name, func(t *testing.T) { s.try(t, &a) })
	}
	for name := range s.gates {
		if good[name] == 0 {
			t.Errorf("nothing good is tried on %s", name)
		}
	}
	if n := s.followed.Load(); n != 0 {
		t.Errorf("a URL in a token was followed %d times", n)
	}
	t.Logf("%d attempts, %d of them good", len(all), good["one"]+good["pem"]+good["nested"]+good["cookie"]+good["many"])
	s.renewAll(t, all)
	s.searchLeaks(t, all)
}

// logBuffer takes a log of many goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) Sync() error { return nil }

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
