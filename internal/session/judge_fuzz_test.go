package session

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"pushgate/api"
)

// FuzzJudge: a request that is let through to the verifiers has one token, from
// where tokens may come from, and nothing else that was not bounded; one that is
// not gets an answer that can be sent.
func FuzzJudge(f *testing.F) {
	f.Add([]byte(upgradeHead("alice")))
	cfg := &Config{
		Carriers: []string{carrierHeader, carrierSubprotocol, carrierQuery, carrierCookie}, CookieName: "token",
		Origins: []string{"https://example.org"},
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, lines, size, err := readWhole(b)
		if err != nil {
			return
		}
		hs := &handshake{request: r}
		refused := hs.judge(cfg, size, lines, r.path == "/v1/ws" || r.path == "/v1/events")
		if refused.Kind != api.RefusedNot {
			answer := string(api.AppendRefusal(nil, refused, hs.cors))
			head, _, ok := strings.Cut(answer, "\r\n\r\n")
			if !ok || !strings.HasPrefix(head, "HTTP/1.1 4") {
				t.Fatalf("refused with %q", answer)
			}
			if hs.token != "" && strings.Contains(refused.Message, hs.token) && len(hs.token) > 8 {
				t.Fatalf("the token is in %q", refused.Message)
			}
			return
		}
		if r.method == http.MethodOptions {
			return // it has no token
		}
		switch {
		case r.method != http.MethodGet || r.path != "/v1/ws" && r.path != "/v1/events":
			t.Fatalf("%s %s is let through", r.method, r.path)
		case hs.token == "" || !strings.Contains(string(b), hs.token) && !strings.Contains(r.query, "%") && !strings.Contains(r.query, "+"):
			t.Fatalf("the token is %q", hs.token)
		case size-len(hs.token) > headBytes || lines > headLines || len(hs.device) > 64:
			t.Fatalf("%d bytes in %d lines, device %q", size, lines, hs.device)
		case r.hasOrigin && !cfg.originAllowed(r.origin, r.host):
			t.Fatalf("origin %q is let through", r.origin)
		case r.path == "/v1/ws" && (!r.upgrade || r.version != "13" || r.keys != 1):
			t.Fatalf("not an upgrade: %+v", r)
		}
		if r.path == "/v1/ws" {
			sameAsLibrary(t, &r)
		}
	})
}

// sameAsLibrary holds the 101 against what gobwas/ws makes of the same request.
func sameAsLibrary(t *testing.T, r *request) {
	t.Helper()
	var out bytes.Buffer
	in := "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: " + r.key + "\r\n"
	if slices.Contains(r.protocols, subprotocol) {
		in += "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"
	}
	u := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == subprotocol }}
	if _, err := u.Upgrade(struct {
		io.Reader
		io.Writer
	}{strings.NewReader(in + "\r\n"), &out}); err != nil {
		t.Fatalf("let through, and yet %v", err)
	}
	read := func(b []byte) http.Header {
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%q: %v", b, err)
		}
		return resp.Header
	}
	got, want := read(r.upgradeAnswer("")), read(out.Bytes())
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("the answer is %v, the library's %v", got, want)
	}
}
