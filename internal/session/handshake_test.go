package session

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"pushgate/api"
	"pushgate/internal/auth"
)

// secret stands in every token of these tests and must come back nowhere.
const secret = "s3cr3t-"

// secretTokens takes "s3cr3t-USER" for a token, with anything behind a dot;
// some users stand for what can be wrong with one.
type secretTokens struct{ plainTokens }

func (secretTokens) Verify(token string) (auth.Identity, error) {
	user, _, _ := strings.Cut(strings.TrimPrefix(token, secret), ".")
	switch {
	case !strings.HasPrefix(token, secret), user == "bad":
		return auth.Identity{}, &auth.Error{Reason: auth.ReasonSignature, Message: "The signature is not valid."}
	case user == "unfit":
		return auth.Identity{}, &auth.Error{Reason: auth.ReasonBadClaim, Message: "A claim is unfit."}
	case user == "unknown":
		return auth.Identity{}, errors.New("the keys cannot be fetched")
	}
	return plainTokens{}.Verify(user)
}

// secretHub is a hub whose log is looked through at the end.
func secretHub(t *testing.T, change func(*Config)) *testHub {
	t.Helper()
	log := new(lockedBuffer)
	t.Cleanup(func() { // after the hub has ended: it was made later
		if log.holds(secret) {
			t.Error("a token stands in the log")
		}
	})
	return startHub(t, func(c *Config) {
		c.Verifier = secretTokens{}
		c.Origins = []string{"https://app.example"}
		c.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), log, zap.DebugLevel))
		if change != nil {
			change(c)
		}
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Sync() error { return nil }

func (l *lockedBuffer) holds(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), s)
}

// requestHead makes a head of its lines.
func requestHead(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n"
}

const (
	hostLine = "Host: gate.example"
	keyLine  = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	bearer   = "Authorization: Bearer " + secret + "alice"
	origin   = "Origin: https://app.example"
)

// wsHead is a good upgrade to path but for what more says.
func wsHead(path string, more ...string) string {
	return requestHead(append([]string{
		"GET " + path + " HTTP/1.1", hostLine, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", keyLine,
	}, more...)...)
}

// ask sends a head and reads the answer: a 101, or all there is until the end.
func (h *testHub) ask(t *testing.T, head string) (*rawClient, *http.Response, string) {
	t.Helper()
	c := h.connect(t)
	c.write(head)
	return c.answer(t)
}

func (c *rawClient) answer(t *testing.T) (*rawClient, *http.Response, string) {
	t.Helper()
	raw, err := c.r.Peek(len("HTTP/1.1 101"))
	if err != nil {
		t.Fatalf("no answer: %v, %q", err, raw)
	}
	if strings.HasSuffix(string(raw), " 101") {
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range resp.Header {
			if strings.Contains(strings.Join(values, " "), secret) {
				t.Errorf("the token comes back in %s: %s", name, values)
			}
		}
		return c, resp, ""
	}
	all, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatalf("the answer does not end cleanly: %v, %q", err, all)
	}
	if bytes.Contains(all, []byte(secret)) {
		t.Errorf("the token comes back: %q", all)
	}
	r := bufio.NewReader(bytes.NewReader(all))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%v: %q", err, all)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%v: %q", err, all)
	}
	_ = resp.Body.Close()
	return c, resp, string(body)
}

func TestCarriers(t *testing.T) {
	h := secretHub(t, still)
	long := secret + "alice." + strings.Repeat("x", 8<<10-len(secret+"alice."))
	for name, head := range map[string]string{
		"header":                      wsHead("/v1/ws", bearer),
		"header, other letters":       wsHead("/v1/ws", "aUTHORIZATION:  bEARER   "+secret+"alice"),
		"subprotocol":                 wsHead("/v1/ws", "Sec-WebSocket-Protocol: pushgate.v1, bearer."+secret+"alice"),
		"subprotocol, reversed":       wsHead("/v1/ws", "Sec-WebSocket-Protocol: bearer."+secret+"alice,pushgate.v1"),
		"subprotocol, in two lines":   wsHead("/v1/ws", "Sec-WebSocket-Protocol: bearer."+secret+"alice", "Sec-WebSocket-Protocol: x, pushgate.v1"),
		"query":                       wsHead("/v1/ws?access_token=" + secret + "alice"),
		"query, escaped":              wsHead("/v1/ws?a=b&access%5Ftoken=" + strings.ReplaceAll(secret, "-", "%2D") + "alice"),
		"header beside another basic": wsHead("/v1/ws", bearer, "Proxy-Authorization: Basic eA=="),
		"long header":                 wsHead("/v1/ws", "Authorization: Bearer "+long),
		"long subprotocol":            wsHead("/v1/ws", "Sec-WebSocket-Protocol: pushgate.v1, bearer."+long),
		"long query":                  wsHead("/v1/ws?access_token=" + long),
	} {
		t.Run(name, func(t *testing.T) {
			c, resp, body := h.ask(t, head)
			if resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("status %d: %s", resp.StatusCode, body)
			}
			if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Errorf("accept is %q", got)
			}
			want := ""
			if strings.Contains(name, "subprotocol") {
				want = subprotocol
			}
			if got := strings.Join(resp.Header.Values("Sec-WebSocket-Protocol"), ","); got != want {
				t.Errorf("the subprotocol is %q, want %q", got, want)
			}
			if w := c.text(t); !strings.Contains(w, `"type":"welcome"`) || !strings.Contains(w, `"user":"alice"`) || strings.Contains(w, secret) {
				t.Errorf("the first frame is %s", w)
			}
		})
	}
}

func TestCarrierThatIsOff(t *testing.T) {
	for off, head := range map[string]string{
		"header":      wsHead("/v1/ws", bearer),
		"subprotocol": wsHead("/v1/ws", "Sec-WebSocket-Protocol: pushgate.v1, bearer."+secret+"alice"),
		"query":       wsHead("/v1/ws?access_token=" + secret + "alice"),
	} {
		h := secretHub(t, func(c *Config) {
			still(c)
			kept := c.Carriers[:0:0]
			for _, name := range c.Carriers {
				if name != off {
					kept = append(kept, name)
				}
			}
			c.Carriers = kept
		})
		if _, resp, body := h.ask(t, head); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s is off and answered %d %s", off, resp.StatusCode, body)
		}
	}
}

// TestGoodUpgrades are requests that look unusual and must work: lists may
// stand in several lines and hold other things (RFC 9110 §5.3, §7.8).
func TestGoodUpgrades(t *testing.T) {
	h := secretHub(t, still)
	up := func(lines ...string) string {
		return requestHead(append([]string{"GET /v1/ws HTTP/1.1", hostLine, "Sec-WebSocket-Version: 13", keyLine, bearer}, lines...)...)
	}
	for name, head := range map[string]string{
		"no subprotocol":            wsHead("/v1/ws", bearer),
		"unknown subprotocol":       wsHead("/v1/ws", bearer, "Sec-WebSocket-Protocol: chat"),
		"unknown extensions":        wsHead("/v1/ws", bearer, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x"),
		"subject of the defaults":   wsHead("/v1/ws?subject=user.alice&subject=broadcast", bearer),
		"other letters":             up("CONNECTION: keep-alive, UPGRADE", "upgrade: WebSocket"),
		"Connection in two lines":   up("Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket"),
		"Upgrade with alternatives": up("Connection: Upgrade", "Upgrade: websocket, h2c"),
		"Upgrade in two lines":      up("Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket"),
		"64 lines":                  wsHead("/v1/ws", append(filler(headLines-6), bearer)...),
		"empty body":                wsHead("/v1/ws", bearer, "Content-Length: 0"),
	} {
		if _, resp, body := h.ask(t, head); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		} else if got := resp.Header.Values("Sec-WebSocket-Extensions"); len(got)+len(resp.Header.Values("Sec-WebSocket-Protocol")) > 0 {
			t.Errorf("%s: something was agreed on: %v", name, resp.Header)
		}
	}
}

// filler is header lines that mean nothing.
func filler(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = "A: b"
	}
	return lines
}

func TestOrigins(t *testing.T) {
	one := secretHub(t, still)
	anyone := secretHub(t, func(c *Config) { still(c); c.Origins = []string{"*"} })
	for _, tc := range []struct {
		origin          string
		listed, starred bool
	}{
		{"https://app.example", true, true},
		{"HTTPS://App.Example", true, true},
		{"https://gate.example", true, true}, // the request's own host
		{"http://gate.example", true, true},
		{"https://app.example.evil", false, true},
		{"https://evil.app.example", false, true},
		{"https://app.example:444", false, true},
		{"http://app.example", false, true},
		{"https://app.example/", false, true},
		{"https://gate.example:81", false, true},
		{"https://gate.example@evil", false, true},
		{"gate.example", false, true},
		{"app.example", false, true},
		{"https://", false, true},
		{"null", false, true},
		{"*", false, true},
	} {
		for h, allowed := range map[*testHub]bool{one: tc.listed, anyone: tc.starred} {
			status, refused := http.StatusSwitchingProtocols, http.StatusUnauthorized
			if !allowed {
				status, refused = http.StatusForbidden, http.StatusForbidden
			}
			_, resp, body := h.ask(t, wsHead("/v1/ws", bearer, "Origin: "+tc.origin))
			if resp.StatusCode != status {
				t.Errorf("%q of %v: %d %s", tc.origin, h.cfg.Origins, resp.StatusCode, body)
			}
			// A page may read why it was refused, if it is one that may connect.
			_, resp, _ = h.ask(t, wsHead("/v1/ws", "Origin: "+tc.origin))
			may := ""
			if allowed {
				may = tc.origin
			}
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != may || resp.StatusCode != refused {
				t.Errorf("%q of %v: %d, readable by %q", tc.origin, h.cfg.Origins, resp.StatusCode, got)
			}
		}
	}
}

func TestPreflight(t *testing.T) {
	h := secretHub(t, still)
	for _, tc := range []struct {
		path, origin string
		status       int
	}{
		{"/v1/ws", "https://app.example", 204},
		{"/v1/events?subject=a", "https://app.example", 204},
		{"/v1/events", "https://gate.example", 204},
		{"/v1/events", "https://evil.example", 403},
		{"/v1/nothing", "https://app.example", 404},
	} {
		_, resp, body := h.ask(t, requestHead("OPTIONS "+tc.path+" HTTP/1.1", hostLine, "Origin: "+tc.origin,
			"Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization"))
		if resp.StatusCode != tc.status {
			t.Errorf("%+v: %d %s", tc, resp.StatusCode, body)
		}
		if allow := resp.Header.Get("Access-Control-Allow-Headers"); (tc.status == 204) != strings.Contains(allow, "Authorization") {
			t.Errorf("%+v: headers allowed are %q", tc, allow)
		}
		if got := resp.Header.Get("Access-Control-Allow-Origin"); tc.status == 204 && got != tc.origin || tc.status == 403 && got != "" {
			t.Errorf("%+v: readable by %q", tc, got)
		}
	}
	if _, resp, _ := h.ask(t, requestHead("OPTIONS /v1/ws HTTP/1.1", hostLine)); resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without an origin: %d, %v", resp.StatusCode, resp.Header)
	}
}

// TestPage: what is not the gateway's goes to the page as it came.
func TestPage(t *testing.T) {
	begun, served := make(chan struct{}), make(chan string, 1)
	h := secretHub(t, func(c *Config) {
		still(c)
		c.PagePaths = []string{"/page"}
		c.Page = func(conn net.Conn) {
			defer func() { _ = conn.Close() }()
			close(begun)
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				served <- err.Error()
				return
			}
			body, _ := io.ReadAll(req.Body)
			served <- req.Method + " " + req.RequestURI + " " + string(body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	c := h.connect(t)
	c.write("POST /page?x HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nfir")
	<-begun // the rest comes to the page, not to the loop
	c.write("st!")
	if got := <-served; got != "POST /page?x first!" {
		t.Errorf("the page got %q", got)
	}
	if n := h.halfOpen.Load(); n != 0 {
		t.Errorf("%d connections are half-open, and the page has the only one", n)
	}
	if _, resp, body := c.answer(t); resp.StatusCode != http.StatusOK || body != "ok" {
		t.Errorf("answered %d %q", resp.StatusCode, body)
	}
	if _, resp, _ := h.ask(t, wsHead("/v1/ws", bearer)); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("beside a page the gateway answers %d", resp.StatusCode)
	}
	if n := h.Stats().Handshakes[api.RefusedPath.String()]; n != 0 {
		t.Errorf("%d requests for the page were refused", n)
	}
}

// TestLateLoop: who comes when a loop was held up has all the time that a
// request may take.
func TestLateLoop(t *testing.T) {
	clock := newStillClock()
	h := startHub(t, func(c *Config) { c.Now, c.Loops = clock.now, 1 })
	// The loop sees that so much time has passed when the connection wakes it.
	clock.moved.Add(int64((headTicks + 1) * time.Second))
	c := h.connect(t)
	eventually(t, "it is accepted", func() bool { return h.halfOpen.Load() == 1 })
	h.everywhere(func(*loop) {}) // that turn is over
	c.write(upgradeHead("alice"))
	if _, resp, body := c.answer(t); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("answered %d %s", resp.StatusCode, body)
	}
}
