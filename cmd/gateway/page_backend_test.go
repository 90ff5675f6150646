//go:build !nodev

package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// runningDev is the dev command in this process.
type runningDev struct {
	tb      testing.TB
	page    string // its address
	natsURL string
	stop    func() // drains it, and waits for its end
}

// console is the page that shows one session frame by frame.
func (d *runningDev) console() string { return d.page + "console" }

// greeting gets what the dev command prints.
type greeting chan string

func (g greeting) Write(b []byte) (int, error) {
	g <- string(b)
	return len(b), nil
}

var (
	greetedPage  = regexp.MustCompile(`page +(http://\S+)`)
	greetedNATS  = regexp.MustCompile(`NATS +(nats://\S+)`)
	greetedToken = regexp.MustCompile(`token for user alice:\s+(\S+)`)
)

// startDev runs the dev command on ports that stay its own while it restarts;
// settings are KEY=value lines of the environment.
func startDev(tb testing.TB, settings ...string) *runningDev {
	tb.Helper()
	startPatiently(tb)
	cfg, _, err := loadConfig(input{dev: true, env: append([]string{
		"GATEWAY_LISTEN=" + heldAddr(tb).String(), "GATEWAY_ADMIN_LISTEN=" + heldAddr(tb).String(), "GATEWAY_ADMIN_DEBUG_LISTEN=" + heldAddr(tb).String(),
		"GATEWAY_DEV_NATS_LISTEN=127.0.0.1:0", "GATEWAY_DRAIN_WINDOW=200ms", "GATEWAY_LOG_LEVEL=error",
	}, settings...)})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	greeted, ended := make(greeting, 8), make(chan error, 1)
	go func() { ended <- runDev(ctx, nil, cfg, cfg.Auth.HS256Secret, greeted) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	select {
	case text := <-greeted:
		tb.Cleanup(stop)
		page, natsURL, token := greetedPage.FindStringSubmatch(text), greetedNATS.FindStringSubmatch(text), greetedToken.FindStringSubmatch(text)
		if page == nil || natsURL == nil || token == nil {
			tb.Fatalf("no addresses in %q", text)
		}
		d := &runningDev{tb, page[1], natsURL[1], stop}
		// Who comes before the stream is known has no place in it to come back to.
		eventually(tb, "clients are given a cursor", func() bool {
			_, answer := d.request("GET", "/v1/events", "", map[string]string{"Authorization": "Bearer " + token[1]})
			var polled struct{ Cursor string }
			return json.Unmarshal([]byte(answer), &polled) == nil && polled.Cursor != ""
		})
		return d
	case err := <-ended:
		cancel()
		tb.Fatalf("the dev command ended: %v", err)
		return nil
	}
}

// request goes to the dev backend; a header Host sets the host.
func (d *runningDev) request(method, path, body string, header map[string]string) (status int, answer string) {
	d.tb.Helper()
	r, err := http.NewRequest(method, strings.TrimSuffix(d.page, "/")+path, strings.NewReader(body))
	if err != nil {
		d.tb.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	if host, ok := header["Host"]; ok {
		r.Host = host
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.tb.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// publish publishes over NATS, as a backend would.
func (d *runningDev) publish(messages ...*nats.Msg) {
	d.tb.Helper()
	nc, err := nats.Connect(d.natsURL, nats.Timeout(comesWithin))
	if err != nil {
		d.tb.Fatal(err)
	}
	defer nc.Close()
	for _, m := range messages {
		if err := nc.PublishMsg(m); err != nil {
			d.tb.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(comesWithin); err != nil {
		d.tb.Fatal(err)
	}
}

func message(subject, data string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = []byte(data)
	return m
}

func TestPageBackend(t *testing.T) {
	d := startDev(t)
	asJSON := map[string]string{"Content-Type": "application/json"}
	with := func(name, value string) map[string]string {
		return map[string]string{"Content-Type": "application/json", name: value}
	}
	const good = `{"subject":"push.user.alice","data":{"a":1}}`
	port := d.page[strings.LastIndex(d.page, ":")+1 : len(d.page)-1]
	for _, tc := range []struct {
		name, method, path, body string
		header                   map[string]string
		status                   int
		want                     string // in the answer
	}{
		{"the page", "GET", "/", "", nil, 200, "<title>Pushgate</title>"},
		{"the page, its head only", "HEAD", "/", "", nil, 200, ""},
		{"no other page", "GET", "/index.html", "", nil, 404, `{"error":"not_found","message":"`},
		{"no other path of the API", "GET", "/v1/nope", "", nil, 404, `{"error":"not_found","message":"`},
		{"no other path of the backend", "GET", "/dev/nope", "", nil, 404, `{"error":"not_found","message":"`},
		{"the page is not written to", "POST", "/", "", nil, 405, `{"error":"method_not_allowed","message":"only GET`},
		{"the page by its IPv6 name", "GET", "/", "", with("Host", "[::1]:"+port), 200, "Pushgate"},
		{"the page by a name", "GET", "/", "", with("Host", "LocalHost"), 200, "Pushgate"},
		{"the page by a foreign name", "GET", "/", "", with("Host", "evil.example"), 403, "this machine only"},
		{"the page by a name that looks like an address", "GET", "/", "", with("Host", "127.0.0.1.evil.example"), 403, "this machine only"},

		{"publish", "POST", "/dev/publish", good, asJSON, 200, `{"published":"push.user.alice"}`},
		{"publish from the page", "POST", "/dev/publish", good, with("Origin", strings.TrimSuffix(d.page, "/")), 200, "published"},
		{"publish with a charset", "POST", "/dev/publish", good, with("Content-Type", "application/json; charset=utf-8"), 200, "published"},
		{"publish with GET", "GET", "/dev/publish", "", nil, 405, ""},
		{"publish what is no JSON", "POST", "/dev/publish", "{", asJSON, 400, "one JSON object"},
		{"publish what is no object", "POST", "/dev/publish", `["push.x"]`, asJSON, 400, "one JSON object"},
		{"publish two objects", "POST", "/dev/publish", good + good, asJSON, 400, "one JSON object"},
		{"publish without data", "POST", "/dev/publish", `{"subject":"push.x"}`, asJSON, 400, "subject and data"},
		{"publish too much", "POST", "/dev/publish", `{"subject":"push.x","data":"` + strings.Repeat("x", 1<<20) + `"}`, asJSON, 413, "1 MiB"},
		{"publish nothing", "POST", "/dev/publish", "", asJSON, 400, "one JSON object"},
		{"publish without a subject", "POST", "/dev/publish", `{"data":1}`, asJSON, 400, "subject is not a valid NATS subject"},
		{"publish to a wildcard", "POST", "/dev/publish", `{"subject":"push.>","data":1}`, asJSON, 400, "not a valid NATS subject"},
		{"publish a protocol line", "POST", "/dev/publish", `{"subject":"push.a\r\nPUB x 0","data":1}`, asJSON, 400, "not a valid NATS subject"},
		// A form can send these without asking first.
		{"publish as text", "POST", "/dev/publish", good, with("Content-Type", "text/plain"), 415, "application/json"},
		{"publish as a form", "POST", "/dev/publish", "subject=push.x", with("Content-Type", "application/x-www-form-urlencoded"), 415, "application/json"},
		{"publish from another page", "POST", "/dev/publish", good, with("Origin", "https://evil.example"), 403, "this machine only"},
		{"publish from another port", "POST", "/dev/publish", good, with("Origin", "http://127.0.0.1:1"), 403, "this machine only"},
		{"publish from no page", "POST", "/dev/publish", good, with("Origin", "null"), 403, "this machine only"},
		{"publish by a foreign name", "POST", "/dev/publish", good, with("Host", "evil.example:"+port), 403, "this machine only"},
		{"another page asks first", "OPTIONS", "/dev/publish", "", with("Origin", "https://evil.example"), 403, "this machine only"},

		{"token", "GET", "/dev/token?sub=alice", "", nil, 200, `{"token":"ey`},
		{"token with POST", "POST", "/dev/token?sub=alice", "", nil, 405, ""},
		{"token for nobody", "GET", "/dev/token", "", nil, 400, "one NATS token"},
		{"token for two tokens", "GET", "/dev/token?sub=a.b", "", nil, 400, "one NATS token"},
		{"token for all", "GET", "/dev/token?sub=*", "", nil, 400, "one NATS token"},
		{"token of three seconds", "GET", "/dev/token?sub=alice&ttl=3s", "", nil, 200, `{"token":"ey`},
		{"token of no time", "GET", "/dev/token?sub=alice&ttl=0s", "", nil, 400, "ttl must be a time"},
		{"token of a year", "GET", "/dev/token?sub=alice&ttl=8760h", "", nil, 400, "ttl must be a time"},
		{"token for another page", "GET", "/dev/token?sub=alice", "", with("Origin", "https://evil.example"), 403, "this machine only"},
		{"token by a foreign name", "GET", "/dev/token?sub=alice", "", with("Host", "evil.example"), 403, "this machine only"},

		{"the console", "GET", "/console", "", nil, 200, "<title>Pushgate console</title>"},
		{"burst", "POST", "/dev/burst", `{"sub":"alice","run":"r","from":1,"count":2}`, asJSON, 200, `"subject":"push.user.alice"`},
		{"burst of nothing", "POST", "/dev/burst", `{"sub":"alice","run":"r","from":1,"count":0}`, asJSON, 400, "count 1 to 1000"},
		{"burst of too many", "POST", "/dev/burst", `{"sub":"alice","run":"r","from":1,"count":1001}`, asJSON, 400, "count 1 to 1000"},
		{"burst of too much", "POST", "/dev/burst", `{"sub":"alice","run":"r","from":1,"count":1000,"pad":32768}`, asJSON, 400, "in all"},
		{"burst for all", "POST", "/dev/burst", `{"sub":"*","run":"r","from":1,"count":1}`, asJSON, 400, "NATS tokens"},
		{"burst that breaks out of its text", "POST", "/dev/burst", `{"sub":"alice","run":"r\"","from":1,"count":1}`, asJSON, 400, "NATS tokens"},
		{"burst as text", "POST", "/dev/burst", `{"sub":"alice","run":"r","from":1,"count":1}`, with("Content-Type", "text/plain"), 415, "application/json"},
		{"draw", "POST", "/dev/canvas", `{"tiles":[[23,15,11],[0,0,0]]}`, asJSON, 200, `{"published":2}`},
		{"draw nothing", "POST", "/dev/canvas", `{"tiles":[]}`, asJSON, 400, "tiles must be"},
		{"draw beside the canvas", "POST", "/dev/canvas", `{"tiles":[[24,0,1]]}`, asJSON, 400, "tiles must be"},
		{"draw above the canvas", "POST", "/dev/canvas", `{"tiles":[[0,-1,1]]}`, asJSON, 400, "tiles must be"},
		{"draw without a colour", "POST", "/dev/canvas", `{"tiles":[[0,0,12]]}`, asJSON, 400, "tiles must be"},
		{"draw too much", "POST", "/dev/canvas", `{"tiles":[` + strings.Repeat("[0,0,1],", 384) + `[0,0,1]]}`, asJSON, 400, "tiles must be"},
		{"draw from another page", "POST", "/dev/canvas", `{"tiles":[[0,0,1]]}`, with("Origin", "https://evil.example"), 403, "this machine only"},
		{"figures", "GET", "/dev/figures", "", nil, 200, `"sessions":{`},
		{"figures by a foreign name", "GET", "/dev/figures", "", with("Host", "evil.example"), 403, "this machine only"},
		{"restart by a link", "GET", "/dev/restart", "", nil, 405, ""},
		{"restart by a form", "POST", "/dev/restart", "", with("Content-Type", "text/plain"), 415, "application/json"},
		{"restart from another page", "POST", "/dev/restart", "{}", with("Origin", "https://evil.example"), 403, "this machine only"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, answer := d.request(tc.method, tc.path, tc.body, tc.header)
			if status != tc.status || !strings.Contains(answer, tc.want) {
				t.Errorf("got %d %q, want %d %q", status, answer, tc.status, tc.want)
			}
		})
	}
}

// A page may ask for a restart as soon as the gateway listens, which is before
// its life begins: what was wished for by then is for this gateway.
func TestPageRestartsEarly(t *testing.T) {
	cfg, _, err := loadConfig(input{env: []string{
		"GATEWAY_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_DEBUG_LISTEN=127.0.0.1:0",
		"GATEWAY_NATS_URL=" + startServer(t).ClientURL(), "GATEWAY_DRAIN_DELAY=0s", "GATEWAY_AUTH_HS256_SECRET=" + testSecret,
	}})
	if err != nil {
		t.Fatal(err)
	}
	level := zap.NewAtomicLevel()
	g, err := newGateway(cfg, zap.NewNop(), &level, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{restart: make(chan struct{}, 1)}
	p.restart <- struct{}{}
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	if again, err := p.live(ctx, nil, g); err != nil || !again {
		t.Errorf("it is restarted: %v, %v", again, err)
	}
}
