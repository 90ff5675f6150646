package session

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"pushgate/api"
)

// text reads one text frame.
func (c *rawClient) text(t *testing.T) string {
	t.Helper()
	op, payload := c.frame(t)
	if op != 0x81 {
		t.Fatalf("frame %#x %q instead of text", op, payload)
	}
	return payload
}

// frame reads one frame as servers send them.
func (c *rawClient) frame(t *testing.T) (first byte, payload string) {
	t.Helper()
	head := make([]byte, 2, 4)
	if _, err := io.ReadFull(c.r, head); err != nil {
		t.Fatal(err)
	}
	n := int(head[1])
	if n == 126 {
		if _, err := io.ReadFull(c.r, head[2:4]); err != nil {
			t.Fatal(err)
		}
		n = int(head[2:4][0])<<8 | int(head[2:4][1])
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		t.Fatal(err)
	}
	return head[0], string(b)
}

// refused holds an answer against what every refusal has.
func refused(t *testing.T, resp *http.Response, body string, kind api.RefusalKind, cors string) {
	t.Helper()
	if resp.StatusCode != kind.Status() {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, kind.Status(), body)
	}
	var got struct{ Error, Message string }
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Error != kind.String() || got.Message == "" {
		t.Errorf("the body is %q, want %s (%v)", body, kind, err)
	}
	if allow := resp.Header.Get("Access-Control-Allow-Origin"); allow != cors {
		t.Errorf("readable by %q, want %q", allow, cors)
	}
	if expose := resp.Header.Get("Access-Control-Expose-Headers"); (cors != "") != strings.Contains(expose, "Retry-After") {
		t.Errorf("exposed are %q", expose)
	}
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if later := kind.Status() == 429 || kind.Status() == 503; later != (err == nil && after > 0) {
		t.Errorf("Retry-After is %q", resp.Header.Get("Retry-After"))
	}
}

func TestRefusedRequests(t *testing.T) {
	h := secretHub(t, nil)
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket"}
	get := func(path string, lines ...string) string {
		return requestHead(append([]string{"GET " + path + " HTTP/1.1", hostLine}, lines...)...)
	}
	keys := func(lines ...string) string {
		return get("/v1/ws", append(append(lines, "Sec-WebSocket-Version: 13", bearer), upgrade...)...)
	}
	const query, sub = "access_token=" + secret + "bob", "Sec-WebSocket-Protocol: pushgate.v1, bearer." + secret + "bob"
	for _, tc := range []struct {
		name, head string
		kind       api.RefusalKind
	}{
		{"no key", keys(), api.RefusedMalformed},
		{"empty key", keys("Sec-WebSocket-Key:"), api.RefusedMalformed},
		{"key of 15 bytes", keys("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), api.RefusedMalformed},
		{"key of 17 bytes", keys("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), api.RefusedMalformed},
		{"key without padding", keys("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"), api.RefusedMalformed},
		{"key that is no base64", keys("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), api.RefusedMalformed},
		{"two keys", keys(keyLine, keyLine), api.RefusedMalformed},
		{"bearer. without pushgate.v1", wsHead("/v1/ws", "Sec-WebSocket-Protocol: bearer."+secret+"alice"), api.RefusedMalformed},
		{"bearer. beside another protocol", wsHead("/v1/ws", "Sec-WebSocket-Protocol: pushgate.v2, bearer."+secret+"alice"), api.RefusedMalformed},
		{"tokens in header and query", wsHead("/v1/ws?"+query, bearer), api.RefusedMalformed},
		{"tokens in header and subprotocol", wsHead("/v1/ws", bearer, sub), api.RefusedMalformed},
		{"tokens in query and subprotocol", wsHead("/v1/ws?"+query, sub), api.RefusedMalformed},
		{"the same token twice", wsHead("/v1/ws?access_token="+secret+"alice", bearer), api.RefusedMalformed},
		{"two tokens in the query", wsHead("/v1/ws?" + query + "&" + query), api.RefusedMalformed},
		{"two tokens in the subprotocol", wsHead("/v1/ws", sub+", bearer."+secret+"alice"), api.RefusedMalformed},
		{"two tokens on /v1/events", get("/v1/events?"+query, bearer), api.RefusedMalformed},
		{"query that cannot be decoded", wsHead("/v1/ws?a=%zz", bearer), api.RefusedMalformed},
		{"semicolon in the query", wsHead("/v1/ws?a=b;c=d", bearer), api.RefusedMalformed},
		{"body", wsHead("/v1/ws", bearer, "Content-Length: 3") + "abc", api.RefusedMalformed},
		{"chunked body", wsHead("/v1/ws", bearer, "Transfer-Encoding: chunked") + "0\r\n\r\n", api.RefusedMalformed},
		{"subject that is none", wsHead("/v1/ws?subject=a..b", bearer), api.RefusedMalformed},
		{"empty subject", wsHead("/v1/ws?subject=", bearer), api.RefusedMalformed},

		{"no token", wsHead("/v1/ws"), api.RefusedToken},
		{"no token on /v1/events", get("/v1/events"), api.RefusedToken},
		{"empty bearer", wsHead("/v1/ws", "Authorization: Bearer "), api.RefusedToken},
		{"another scheme", wsHead("/v1/ws", "Authorization: Basic "+secret), api.RefusedToken},
		{"empty query token", wsHead("/v1/ws?access_token="), api.RefusedToken},
		{"empty subprotocol token", wsHead("/v1/ws", "Sec-WebSocket-Protocol: pushgate.v1, bearer."), api.RefusedToken},
		{"bad token", wsHead("/v1/ws?access_token=" + secret + "bad"), api.RefusedToken},
		{"bad token in the header", wsHead("/v1/ws", "Authorization: Bearer "+secret+"bad"), api.RefusedToken},
		{"bad token in the subprotocol", wsHead("/v1/ws", "Sec-WebSocket-Protocol: pushgate.v1, bearer."+secret+"bad"), api.RefusedToken},
		{"bad token on /v1/events", get("/v1/events?access_token=" + secret + "bad"), api.RefusedToken},

		{"claim that is unfit", wsHead("/v1/ws?access_token=" + secret + "unfit"), api.RefusedForbidden},
		{"subject that is not granted", wsHead("/v1/ws?subject=user.bob", bearer), api.RefusedForbidden},
		{"one of several not granted", wsHead("/v1/ws?subject=broadcast&subject=rooms.1", bearer), api.RefusedForbidden},
		{"wildcard that is not granted", wsHead("/v1/ws?subject=user.*", bearer), api.RefusedForbidden},
		{"everything", wsHead("/v1/ws?subject=%3E", bearer), api.RefusedForbidden},

		{"root", wsHead("/", bearer), api.RefusedPath},
		{"longer path", wsHead("/v1/ws/", bearer), api.RefusedPath},
		{"other letters", wsHead("/v1/WS", bearer), api.RefusedPath},
		{"escaped path", wsHead("/v1%2Fws", bearer), api.RefusedPath},
		{"two slashes", wsHead("//v1/ws", bearer), api.RefusedPath},

		{"POST", requestHead("POST /v1/events HTTP/1.1", hostLine, bearer, "Content-Length: 3") + "abc", api.RefusedMethod},
		{"PUT", requestHead("PUT /v1/ws HTTP/1.1", hostLine, bearer), api.RefusedMethod},
		{"get", requestHead("get /v1/ws HTTP/1.1", hostLine, bearer), api.RefusedMethod},

		{"no Upgrade", get("/v1/ws", bearer), api.RefusedUpgrade},
		{"Upgrade without Connection", get("/v1/ws", upgrade[1], "Sec-WebSocket-Version: 13", keyLine, bearer), api.RefusedUpgrade},
		{"Connection without Upgrade", get("/v1/ws", upgrade[0], "Sec-WebSocket-Version: 13", keyLine, bearer), api.RefusedUpgrade},
		{"another upgrade", get("/v1/ws", upgrade[0], "Upgrade: h2c", keyLine, bearer), api.RefusedUpgrade},
		{"no version", get("/v1/ws", upgrade[0], upgrade[1], keyLine, bearer), api.RefusedUpgrade},
		{"version 8", get("/v1/ws", upgrade[0], upgrade[1], "Sec-WebSocket-Version: 8", keyLine, bearer), api.RefusedUpgrade},
		{"versions 13, 8", get("/v1/ws", upgrade[0], upgrade[1], "Sec-WebSocket-Version: 13, 8", keyLine, bearer), api.RefusedUpgrade},

		{"65 lines", wsHead("/v1/ws", append(filler(headLines-5), bearer)...), api.RefusedHeadSize},
		{"9 KiB without a token", get("/v1/events", "X: "+strings.Repeat("x", 9<<10)), api.RefusedHeadSize},
		{"9 KiB and no Upgrade", get("/v1/ws", bearer, "X: "+strings.Repeat("x", 9<<10)), api.RefusedHeadSize},
		{"9 KiB elsewhere", get("/", "X: "+strings.Repeat("x", 9<<10)), api.RefusedHeadSize},
		{"9 KiB beside a token of 3 KiB", get("/v1/events?access_token="+strings.Repeat("x", 3<<10), "X: "+strings.Repeat("x", 9<<10)), api.RefusedHeadSize},
		{"bad token of 9 KiB", get("/v1/events?access_token=" + strings.Repeat("x", 9<<10)), api.RefusedToken},
		{"more than any head", get("/v1/events", "X: "+strings.Repeat("x", 20<<10)), api.RefusedHeadSize},

		{"two Authorization headers", wsHead("/v1/ws", bearer, bearer), api.RefusedMalformed},
		{"a space behind a name", wsHead("/v1/ws", bearer, "X : a"), api.RefusedMalformed},
		{"a target that is no path", requestHead("GET http://gate.example/v1/ws HTTP/1.1", hostLine, bearer), api.RefusedMalformed},
		{"HTTP/1.0", requestHead("GET /v1/ws HTTP/1.0", hostLine, bearer), api.RefusedMalformed},

		{"polling without a stream", get("/v1/events?wait=1s", bearer), api.RefusedNeedsStream},
		{"keys that cannot be had", wsHead("/v1/ws?access_token=" + secret + "unknown"), api.RefusedFull},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, from := range []string{"", "https://app.example"} {
				head := tc.head
				if from != "" {
					// In front, so that the number of lines is the only change.
					head = strings.Replace(head, hostLine, hostLine+"\r\n"+origin, 1)
				}
				_, resp, body := h.ask(t, head)
				refused(t, resp, body, tc.kind, from)
				www := ""
				if tc.kind == api.RefusedToken {
					www = "Bearer"
					if strings.HasPrefix(tc.name, "bad token") {
						www = `Bearer error="invalid_token"`
					}
				}
				if got := resp.Header.Get("WWW-Authenticate"); got != www {
					t.Errorf("WWW-Authenticate is %q, want %q", got, www)
				}
				if got := resp.Header.Get("Allow"); (tc.kind == api.RefusedMethod) != (got == "GET, OPTIONS") {
					t.Errorf("Allow is %q", got)
				}
			}
		})
	}
	// Every one is counted under its own name, and none became a session.
	st := h.Stats()
	for _, k := range []api.RefusalKind{api.RefusedMalformed, api.RefusedToken, api.RefusedForbidden, api.RefusedPath, api.RefusedUpgrade} {
		if st.Handshakes[k.String()] == 0 {
			t.Errorf("%s is not counted", k)
		}
	}
	if n := st.Handshakes[api.RefusedNot.String()]; n != 0 || h.open.Load() != 0 {
		t.Errorf("%d were accepted, %d are open", n, h.open.Load())
	}
}

// TestUnreadableHeads: nothing is known of who sent them.
func TestUnreadableHeads(t *testing.T) {
	t.Parallel()
	h := secretHub(t, nil)
	for name, tc := range map[string]struct {
		head string
		kind api.RefusalKind
	}{
		"HTTP/1.0":     {requestHead("GET /v1/ws HTTP/1.0", hostLine, bearer), api.RefusedMalformed},
		"bare LF":      {"GET /v1/ws HTTP/1.1\n", api.RefusedMalformed},
		"two Hosts":    {wsHead("/v1/ws", hostLine, bearer), api.RefusedMalformed},
		"two Origins":  {wsHead("/v1/ws", origin, origin, bearer), api.RefusedMalformed},
		"half a head":  {"GET /v1/ws HTTP/1.1\r\n" + hostLine + "\r\nX", api.RefusedSlowHead},
		"TLS":          {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", api.RefusedSlowHead},
		"never a head": {strings.Repeat("A", 17<<10), api.RefusedHeadSize},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // TLS is waited for
			_, resp, body := h.ask(t, tc.head)
			refused(t, resp, body, tc.kind, "")
		})
	}
}

// TestSlowHeadIsReadable: the page whose head did not come whole reads why.
func TestSlowHeadIsReadable(t *testing.T) {
	t.Parallel()
	h := secretHub(t, nil)
	_, resp, body := h.ask(t, "GET /v1/events HTTP/1.1\r\n"+hostLine+"\r\n"+origin+"\r\nX")
	refused(t, resp, body, api.RefusedSlowHead, "https://app.example")
	_, resp, body = h.ask(t, requestHead("GET /v1/events HTTP/1.1", hostLine, "Origin: https://other.example", "X : a"))
	refused(t, resp, body, api.RefusedMalformed, "")
}

// TestHeadHasNoBody (RFC 9110 §9.3.2).
func TestHeadHasNoBody(t *testing.T) {
	h := secretHub(t, nil)
	c := h.connect(t)
	c.write(requestHead("HEAD /v1/events HTTP/1.1", hostLine, bearer))
	answer, err := io.ReadAll(c.r)
	if text := string(answer); err != nil || !strings.HasPrefix(text, "HTTP/1.1 405 ") || !strings.HasSuffix(text, "\r\n\r\n") || strings.Contains(text, "{") {
		t.Errorf("answered %q, %v", text, err)
	}
}

// TestLineBreakBeforeTheHead (RFC 9112 §2.2), in one piece and in bytes.
func TestLineBreakBeforeTheHead(t *testing.T) {
	h := secretHub(t, func(c *Config) { c.Now = newStillClock().now }) // each byte may come late
	head := "\r\n" + wsHead("/v1/ws", bearer)
	for _, piece := range []int{len(head), 1} {
		c := h.connect(t)
		for at := 0; at < len(head); at += piece {
			c.write(head[at : at+piece])
		}
		if status, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(status, "HTTP/1.1 101 ") {
			t.Errorf("%d bytes at a time: %q, %v", piece, status, err)
		}
	}
}

func TestBytesBehindTheHead(t *testing.T) {
	h := secretHub(t, nil)
	t.Run("ping", func(t *testing.T) {
		c, _, _ := h.ask(t, wsHead("/v1/ws", bearer)+masked(0x89, "early")+masked(0x81, `{"type":"ping","ref":"1"}`))
		if w := c.text(t); !strings.Contains(w, "welcome") {
			t.Errorf("the first frame is %s", w)
		}
		if op, payload := c.frame(t); op != 0x8a || payload != "early" {
			t.Errorf("the ping is answered %#x %q", op, payload)
		}
		if got := c.text(t); got != `{"type":"pong","ref":"1"}` {
			t.Errorf("the ping message is answered %s", got)
		}
	})
	for name, junk := range map[string]string{
		"another request": requestHead("GET / HTTP/1.1", hostLine), "a frame without mask": "\x81\x02{}", "line break": "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, resp, body := h.ask(t, wsHead("/v1/ws", bearer)+junk)
			if resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("status %d %s", resp.StatusCode, body)
			}
			if code := c.closeCode(); code != 1002 {
				t.Errorf("ends with %d", code)
			}
		})
	}
}

func TestHeadInBytes(t *testing.T) {
	h := secretHub(t, func(c *Config) { c.Now = newStillClock().now }) // each byte may come late
	c := h.connect(t)
	head := wsHead("/v1/ws", bearer)
	for i := range len(head) {
		c.write(head[i : i+1])
	}
	if _, resp, body := c.answer(t); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d %s", resp.StatusCode, body)
	}
	if w := c.text(t); !strings.Contains(w, "welcome") {
		t.Errorf("the first frame is %s", w)
	}
}
