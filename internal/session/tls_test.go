package session

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"pushgate/api"
)

// testCertificate is one for 127.0.0.1, of ECDSA P-256.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// clientTLS trusts testCertificate and speaks this version only; 0 is any.
func clientTLS(version uint16) *tls.Config {
	cert, err := x509.ParseCertificate(testCertificate().Certificate[0])
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{RootCAs: roots, MinVersion: version, MaxVersion: version}
}

// aheadClock stands further ahead of the real time than any test lasts: by that,
// what is left to a TLS handshake is reckoned.
func aheadClock() *stillClock { return &stillClock{began: time.Now().Add(30 * time.Minute)} }

// realClock gives a hub of startTLSHub the time that everybody has.
func realClock(c *Config) { c.Now = time.Now }

// startTLSHub is startHub with TLS on its listener. Its clock stands ahead.
func startTLSHub(tb testing.TB, change func(*Config)) *testHub {
	tb.Helper()
	return startHub(tb, func(c *Config) {
		c.Now = aheadClock().now
		c.TLS = &tls.Config{
			Certificates: []tls.Certificate{testCertificate()}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		}
		if change != nil {
			change(c)
		}
	})
}

// dialTLS is dial over TLS.
func (h *testHub) dialTLS(tb testing.TB, token string, version uint16) *client {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: clientTLS(version)}
	conn, _, err := websocket.Dial(ctx, "wss://"+h.addr+"/v1/ws", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport},
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	c := &client{Conn: conn, tb: tb}
	tb.Cleanup(func() { _ = conn.CloseNow(); transport.CloseIdleConnections() })
	if c.welcome = c.next(); c.welcome["type"] != "welcome" {
		tb.Fatalf("the first frame is %v", c.welcome)
	}
	return c
}

// connectTLS is connect, with the TLS handshake done.
func (h *testHub) connectTLS(tb testing.TB, config *tls.Config) *rawClient {
	tb.Helper()
	plain := h.connect(tb)
	conn := tls.Client(plain.Conn, withName(config))
	if err := conn.Handshake(); err != nil {
		tb.Fatal(err)
	}
	return &rawClient{conn, bufio.NewReader(conn), tb}
}

func withName(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.ServerName = "127.0.0.1"
	return config
}

func (h *testHub) dialRawTLS(tb testing.TB, token string) *rawClient {
	tb.Helper()
	c := h.connectTLS(tb, clientTLS(0))
	c.write(upgradeHead(token))
	c.upgraded()
	return c
}

// upgraded reads the 101.
func (c *rawClient) upgraded() {
	c.tb.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.tb.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		c.tb.Fatalf("status %d", resp.StatusCode)
	}
}

// object reads the next frame, a text.
func (c *rawClient) object(t *testing.T) map[string]any {
	t.Helper()
	text := c.text(t)
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return m
}

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

func TestTLSSession(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			h := startTLSHub(t, nil)
			alice, bob := h.dialTLS(t, "alice", version), h.dialTLS(t, "bob", version)
			alice.say(`{"type":"ping","ref":"7"}`)
			if got := alice.next(); got["type"] != "pong" || got["ref"] != "7" {
				t.Errorf("ping is answered %v", got)
			}
			big := strings.Repeat("x", 60<<10)
			for range 20 {
				h.Deliver([]api.Event{event("user.alice", `"`+big+`"`), event("broadcast", `"all"`)})
				got := map[any]any{}
				for range 2 {
					e := alice.next()
					got[e["subject"]] = e["data"]
				}
				if got["user.alice"] != big || got["broadcast"] != "all" {
					t.Fatal("alice does not get both events")
				}
				if got := bob.next(); got["data"] != "all" {
					t.Fatalf("bob got %v", got)
				}
			}
			// The library waits for an answer for five seconds, no more;
			// TestTLSClosesAreTold holds that there is one.
			if err := alice.Close(websocket.StatusNormalClosure, "bye"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			_ = bob.CloseNow()
			eventually(t, "both are gone", func() bool { return h.open.Load() == 0 })
			if st := h.Stats(); st.Closes["client"] != 1 || st.Closes["lost"] != 1 || st.TLSFailures != 0 {
				t.Errorf("closes are %v, failures %d", st.Closes, st.TLSFailures)
			}
		})
	}
}

// TestTLSBroadcastInSlices has more takers than a slice.
func TestTLSBroadcastInSlices(t *testing.T) {
	h := startTLSHub(t, nil)
	const n, events = 300, 20
	clients := make([]*rawClient, n)
	for i := range clients {
		clients[i] = h.dialRawTLS(t, "u")
	}
	for i := range events {
		h.Deliver([]api.Event{{Subject: "broadcast", Time: time.Now(), Data: []byte{byte('0' + i%10)}}})
	}
	for i, c := range clients {
		if got := c.object(t); got["type"] != "welcome" {
			t.Fatalf("the first frame is %v", got)
		}
		for k := range events {
			if got := c.object(t)["data"]; got != float64(k%10) {
				t.Fatalf("client %d got %v, want %d", i, got, k%10)
			}
		}
	}
}

// TestTLSSlowConsumer freezes one client; the other does not notice.
func TestTLSSlowConsumer(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			h := startTLSHub(t, nil)
			slow := h.connectTLS(t, clientTLS(version))
			slow.write(upgradeHead("slow"))
			slow.upgraded()
			quick := h.dialTLS(t, "quick", version)
			big := event("user.slow", `"`+strings.Repeat("x", 60<<10)+`"`)
			most := int64(0)
			eventually(t, "the slow one is closed", func() bool {
				h.Deliver([]api.Event{big, event("user.quick", `1`)})
				if got := quick.next(); got["subject"] != "user.quick" {
					t.Fatalf("got %v", got)
				}
				most = max(most, h.Stats().Outbox)
				return h.Stats().Closes["slow_consumer"] == 1
			})
			if limit := int64(h.cfg.OutboxBytes); most > limit {
				t.Errorf("%d bytes waited, the limit is %d", most, limit)
			}
			// It still reads whole frames to the end, and then why.
			if code := slow.closeCode(); code != 4100 {
				t.Errorf("a slow session ends with %d", code)
			}
			if n, err := slow.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("behind the close frame come %d bytes, %v", n, err)
			}
			_ = slow.Close()
			eventually(t, "nothing is left of it", func() bool { return h.Stats().Outbox == 0 && h.open.Load() == 1 })
		})
	}
}

// TestTLSClosesAreTold: close frames, and behind them the end within TLS.
func TestTLSClosesAreTold(t *testing.T) {
	for _, tc := range []struct {
		name, send string
		passes     time.Duration
		code       int
	}{
		{"expired", "", time.Hour, 4200},
		{"silent", "", 2 * time.Minute, 4101},
		{"binary", masked(0x82, "{}"), 0, 1003},
		{"too large", masked(0x81, strings.Repeat("x", 4097)), 0, 1009},
		{"flood", strings.Repeat(masked(0x89, "x"), 3000), 0, 1008},
		{"closed by the client", masked(0x88, "\x03\xe8bye"), 0, 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			clock := aheadClock()
			h := startTLSHub(t, func(c *Config) { c.Now = clock.now })
			c := h.dialRawTLS(t, "alice")
			c.write(tc.send)
			clock.move(h, tc.passes)
			if code := c.closeCode(); code != tc.code {
				t.Errorf("ends with %d, want %d", code, tc.code)
			}
			// io.EOF is close_notify; without it tls says unexpected EOF.
			if n, err := c.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("behind the close frame come %d bytes, %v", n, err)
			}
		})
	}
}

func TestTLSDrain(t *testing.T) {
	h := startTLSHub(t, nil)
	clients := make([]*client, 30)
	for i := range clients {
		clients[i] = h.dialTLS(t, "u", 0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		h.Drain(ctx, 300*time.Millisecond, nil)
		close(done)
	}()
	for _, c := range clients {
		if got := c.next(); got["type"] != "drain" {
			t.Errorf("got %v", got)
		}
		if code := c.ends(); code != websocket.StatusGoingAway {
			t.Errorf("closed with %d", code)
		}
	}
	<-done
	if n := h.open.Load(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// recorder is a connection that keeps what is written to it.
type recorder struct {
	net.Conn
	hold bool
	held []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	if !r.hold {
		return r.Conn.Write(b)
	}
	r.held = append(r.held, b...)
	return len(b), nil
}

// TestTLSRecordsAndSegments: what one record, one packet or one read holds
// says nothing about requests and frames.
func TestTLSRecordsAndSegments(t *testing.T) {
	const ping = `{"type":"ping","ref":"early"}`
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			h := startTLSHub(t, nil)
			open := func() (*rawClient, *recorder) {
				r := &recorder{Conn: h.connect(t).Conn}
				conn := tls.Client(r, withName(clientTLS(version)))
				if err := conn.Handshake(); err != nil {
					t.Fatal(err)
				}
				return &rawClient{conn, bufio.NewReader(conn), t}, r
			}
			pongs := func(t *testing.T, c *rawClient, n int) {
				t.Helper()
				c.upgraded()
				if got := c.object(t); got["type"] != "welcome" {
					t.Fatalf("the first frame is %v", got)
				}
				for i := range n {
					if got := c.object(t); got["type"] != "pong" {
						t.Fatalf("answer %d is %v", i, got)
					}
				}
			}
			t.Run("request and frames in one record", func(t *testing.T) {
				c, _ := open()
				c.write(upgradeHead("alice") + strings.Repeat(masked(0x81, ping), 300))
				pongs(t, c, 300)
			})
			t.Run("a record a byte", func(t *testing.T) {
				c, _ := open()
				all := upgradeHead("alice") + masked(0x81, ping)
				for i := range all {
					c.write(all[i : i+1])
				}
				pongs(t, c, 1)
			})
			t.Run("many records in one segment", func(t *testing.T) {
				c, r := open()
				r.hold = true
				c.write(upgradeHead("alice"))
				for range 50 {
					c.write(masked(0x81, ping))
				}
				if _, err := r.Conn.Write(r.held); err != nil {
					t.Fatal(err)
				}
				pongs(t, c, 50)
			})
			t.Run("a segment a byte", func(t *testing.T) {
				c, r := open()
				r.hold = true
				c.write(upgradeHead("alice") + masked(0x81, ping))
				c.write(masked(0x81, ping))
				for i := range r.held {
					if _, err := r.Conn.Write(r.held[i : i+1]); err != nil {
						t.Fatal(err)
					}
				}
				pongs(t, c, 2)
			})
			t.Run("two records of 16 KiB", func(t *testing.T) {
				c, _ := open()
				c.write(upgradeHead("alice"))
				long := masked(0x81, `{"type":"ping","ref":"`+strings.Repeat("r", 60)+`"}`)
				n := 32 << 10 / len(long)
				c.write(strings.Repeat(long, n))
				pongs(t, c, n)
			})
		})
	}
}

// TestTLSRefusals come through TLS, whoever says no: the loop, a verifier, the
// home loop or the sweep.
func TestTLSRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		head   string
		status int
	}{
		"no such path":      {"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"malformed":         {"GET /v1/ws\r\nHost: x\r\n\r\n", 400},
		"too large":         {upgradeHead(strings.Repeat("x", 60<<10)), 431},
		"forbidden subject": {strings.Replace(upgradeHead("alice"), "/v1/ws", "/v1/ws?subject=user.bob", 1), 403},
		"too many sessions": {upgradeHead("bob"), 429},
		"too slow":          {"GET /v1/ws HTTP/1.1\r\n", 408},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := aheadClock()
			h := startTLSHub(t, func(c *Config) { c.Now, c.SessionsPerUser = clock.now, 1 })
			h.dialTLS(t, "bob", 0)
			c := h.connectTLS(t, clientTLS(0))
			c.write(tc.head)
			if tc.status == http.StatusRequestTimeout {
				eventually(t, "its request is awaited", func() bool { return len(h.awaited()) == 1 })
				clock.move(h, headTicks*time.Second)
			}
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.status)
			}
			var body struct{ Error, Message string }
			if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || body.Error == "" {
				t.Errorf("body %+v, %v", body, err)
			}
			if n, err := c.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("behind the refusal come %d bytes, %v", n, err)
			}
		})
	}
}

// TestTLSPage gives a connection to the page that the gateway has no path for:
// it reads what was read already, and what came later.
func TestTLSPage(t *testing.T) {
	h := startTLSHub(t, func(c *Config) {
		c.PagePaths = []string{"/"}
		c.Page = func(conn net.Conn) {
			defer func() { _ = conn.Close() }()
			r := bufio.NewReader(conn)
			req, err := http.ReadRequest(r)
			if err != nil {
				t.Error(err)
				return
			}
			body, err := io.ReadAll(io.LimitReader(r, req.ContentLength))
			if err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"+string(body))
		}
	})
	c := h.connectTLS(t, clientTLS(0))
	c.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
	c.write("def")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "abcdef" {
		t.Errorf("the page answers %q, %v", body, err)
	}
	if n, err := c.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind the answer come %d bytes, %v", n, err)
	}
}

// TestPlainHTTPOnTheTLSPort is told so, in plain text.
func TestPlainHTTPOnTheTLSPort(t *testing.T) {
	h := startTLSHub(t, nil)
	for _, head := range []string{
		upgradeHead("alice"), "GET / HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000),
	} {
		c := h.connect(t)
		c.write(head)
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		var body struct{ Error, Message string }
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusBadRequest || body.Error != "malformed" || !strings.Contains(body.Message, "this port speaks TLS") {
			t.Errorf("%.10q gets %d %+v", head, resp.StatusCode, body)
		}
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("behind the answer: %v", err)
		}
		_ = c.Close()
	}
	if st := h.Stats(); st.Handshakes["malformed"] != 4 || st.TLSFailures != 0 {
		t.Errorf("%d refusals and %d failures are counted", st.Handshakes["malformed"], st.TLSFailures)
	}
	eventually(t, "nobody is half-open", func() bool { return h.halfOpen.Load() == 0 })
}

// TestTLSHandshakesThatFail are counted; a probe of the port is none.
func TestTLSHandshakesThatFail(t *testing.T) {
	h := startTLSHub(t, nil)
	old := clientTLS(0)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	h2 := clientTLS(0)
	h2.NextProtos = []string{"h2"}
	for name, config := range map[string]*tls.Config{"TLS 1.1": old, "ALPN h2 only": h2} {
		var alert tls.AlertError
		var told net.Error
		err := tls.Client(h.connect(t).Conn, withName(config)).Handshake()
		if !errors.As(err, &alert) && !errors.As(err, &told) || told != nil && told.Timeout() {
			t.Errorf("%s gets %v", name, err)
		}
	}
	nonsense := h.connect(t)
	nonsense.write("\x16\x03\x01\n\n\n")
	_ = nonsense.Close()
	eventually(t, "three are counted", func() bool { return h.Stats().TLSFailures == 3 })

	_ = h.connect(t).Close()
	both := clientTLS(0)
	both.NextProtos = []string{"h2", "http/1.1"}
	c := h.connectTLS(t, both)
	if got := c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("%q is negotiated", got)
	}
	_ = c.Close()
	eventually(t, "nobody is half-open", func() bool { return h.Stats().Accepted == 5 && h.halfOpen.Load() == 0 })
	if st := h.Stats(); st.TLSFailures != 3 {
		t.Errorf("%d failures are counted", st.TLSFailures)
	}
}
