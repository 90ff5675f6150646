package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A client's address shows in what limits.per_address counts: a request that is
// refused while another session of an address is open comes from that address.

// hold opens a session and keeps it until the returned function ends it.
func (r *running) hold(lines ...string) (leave func()) {
	r.tb.Helper()
	request := wsRequest("/v1/ws", append(lines, bearerLine(r.token("holder")))...)
	var conn net.Conn
	eventually(r.tb, "there is a place to hold", func() bool {
		var err error
		if conn, err = net.Dial("tcp", r.addr.String()); err != nil {
			r.tb.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			r.tb.Fatal(err)
		}
		status := make([]byte, len("HTTP/1.1 101"))
		if _, err := io.ReadFull(conn, status); err != nil {
			r.tb.Fatal(err)
		}
		if string(status) == "HTTP/1.1 101" {
			return true
		}
		_ = conn.Close()
		return false
	})
	return func() { _ = conn.Close() }
}

// limited says whether a handshake was refused for its address or user.
func limited(t *testing.T, got response) bool {
	t.Helper()
	switch got.status {
	case http.StatusSwitchingProtocols:
		return false
	case http.StatusTooManyRequests:
		if after, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || after < 1 || got.code != "rate" {
			t.Errorf("refused so: %s", got.all)
		}
		return true
	}
	t.Errorf("answered %s", got.all)
	return false
}

// isFrom proves what address a request counts for: it gets in, but not beside
// a session of that address. "" is the peer's own.
func (r *running) isFrom(t *testing.T, what, request, address string) {
	t.Helper()
	eventually(t, what+" gets in", func() bool { return !limited(t, ask(t, r.addr, request)) })
	var lines []string
	if address != "" {
		lines = []string{"X-Forwarded-For: " + address}
	}
	leave := r.hold(lines...)
	defer leave()
	if !limited(t, ask(t, r.addr, request)) {
		t.Errorf("%s is not from %q", what, address)
	}
}

// forwarded is a handshake with these X-Forwarded-For headers.
func (r *running) forwarded(values ...string) string {
	lines := []string{bearerLine(r.token("alice"))}
	for _, v := range values {
		lines = append(lines, "X-Forwarded-For: "+v)
	}
	return wsRequest("/v1/ws", lines...)
}

const trustedProxies = "GATEWAY_PROXY_TRUSTED=127.0.0.0/8,10.0.0.0/8,fd00::/8"

func TestForwardedFor(t *testing.T) {
	g := startGateway(t, "GATEWAY_LIMITS_PER_ADDRESS=1", trustedProxies)
	const client, other = "192.0.2.1", "198.51.100.7"
	for _, tc := range []struct {
		headers []string
		address string // as a header of its own; empty: the proxy's
	}{
		{nil, ""},
		{[]string{client}, client},
		{[]string{"  192.0.2.1\t"}, client},
		{[]string{"192.0.2.1:4711"}, client},
		{[]string{"::ffff:192.0.2.1"}, client},
		{[]string{"[::ffff:192.0.2.1]:80"}, client},
		// Only what our own proxies have added counts: from the right, up to
		// the first address that is not theirs.
		{[]string{"198.51.100.7, 192.0.2.1"}, client},
		{[]string{"192.0.2.1, 198.51.100.7"}, other},
		{[]string{"192.0.2.1, 10.1.2.3,10.3.2.1, fd00::1"}, client},
		{[]string{"192.0.2.1, 198.51.100.7, 10.0.0.1"}, other},
		{[]string{"192.0.2.1, ::ffff:10.0.0.1"}, client},
		{[]string{client, "10.1.2.3"}, client},
		{[]string{client, other}, other},
		{[]string{"127.0.0.1, 10.0.0.1"}, ""},
		{[]string{"evil, <script>, 192.0.2.1"}, client},
		{[]string{strings.Repeat("203.0.113.1, ", 300) + client}, client},
		// What is no address ends the search at the proxy that sent it.
		{[]string{"192.0.2.1, garbage"}, ""},
		{[]string{"192.0.2.1, garbage, 10.0.0.1"}, "10.0.0.1"},
		{[]string{"192.0.2.1, "}, ""},
		{[]string{""}, ""},
		{[]string{"unknown"}, ""},
		{[]string{"192.0.2.01"}, ""},
		{[]string{"192.0.2.1/32"}, ""},
		{[]string{"192.0.2.1 198.51.100.7"}, ""},
		{[]string{`for=192.0.2.1`}, ""},
		// Of IPv6 the /64 counts.
		{[]string{"2001:db8:1:2::1"}, "2001:db8:1:2:ffff::2"},
		{[]string{"[2001:db8:1:2::9]:443"}, "2001:db8:1:2::1"},
		{[]string{"[2001:db8:1:2::9]"}, "2001:db8:1:2::1"},
		{[]string{"2001:db8:1:2::1%eth0"}, "2001:db8:1:2::1"},
	} {
		g.isFrom(t, fmt.Sprintf("%.80q", tc.headers), g.forwarded(tc.headers...), tc.address)
	}
	// Neighbours are somebody else.
	defer g.hold("X-Forwarded-For: 2001:db8:1:2::1")()
	defer g.hold("X-Forwarded-For: " + client)()
	for _, neighbour := range []string{"2001:db8:1:3::1", "192.0.2.2"} {
		if limited(t, ask(t, g.addr, g.forwarded(neighbour))) {
			t.Errorf("%s shares a limit", neighbour)
		}
	}
}

// TestNobodySpeaksForOthers has peers that are no trusted proxies.
func TestNobodySpeaksForOthers(t *testing.T) {
	for _, trusted := range []string{"", "10.0.0.0/8,::1,192.0.2.1"} {
		g := startGateway(t, "GATEWAY_LIMITS_PER_ADDRESS=1", "GATEWAY_PROXY_TRUSTED="+trusted)
		g.isFrom(t, "a forged header", g.forwarded("192.0.2.1"), "")
		g.isFrom(t, "a forged chain", g.forwarded("192.0.2.1", "10.0.0.1"), "")
		for name, header := range map[string]string{
			"v1":       "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
			"v1 local": "PROXY UNKNOWN\r\n",
			"v2":       proxyV2(0x21, 0x11, netip.MustParseAddr("192.0.2.1").AsSlice()),
			"v2 local": proxyV2(0x20, 0x00, nil),
		} {
			if got := ask(t, g.addr, header+g.forwarded()); got.status != http.StatusBadRequest || got.code != "malformed" {
				t.Errorf("a PROXY header %s gets %s", name, got.all)
			}
		}
	}
}

// proxyV2 is a binary PROXY header for a source, port 1; more stands behind the
// addresses.
func proxyV2(command, family byte, source []byte, more ...byte) string {
	var b bytes.Buffer
	b.WriteString("\r\n\r\n\x00\r\nQUIT\n")
	b.WriteByte(command)
	b.WriteByte(family)
	body := append([]byte(nil), more...)
	if source != nil {
		destination := make([]byte, len(source))
		body = append(append(append(append([]byte(nil), source...), destination...), 0, 1, 0, 2), more...)
	}
	_ = binary.Write(&b, binary.BigEndian, uint16(len(body)))
	b.Write(body)
	return b.String()
}

func TestProxyHeaders(t *testing.T) {
	g := startGateway(t, "GATEWAY_LIMITS_PER_ADDRESS=1", trustedProxies)
	four, six := netip.MustParseAddr("192.0.2.1").AsSlice(), netip.MustParseAddr("2001:db8:1:2::9").AsSlice()
	const client = "192.0.2.1"
	proxied := []struct{ name, header, address string }{
		{"v1", "PROXY TCP4 192.0.2.1 198.51.100.1 40000 443\r\n", client},
		{"v1 of IPv6", "PROXY TCP6 2001:db8:1:2::9 2001:db8::1 1 2\r\n", "2001:db8:1:2::1"},
		{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", ""},
		{"v1 UNKNOWN with addresses", "PROXY UNKNOWN 192.0.2.1 198.51.100.1 1 2\r\n", ""},
		{"v2", proxyV2(0x21, 0x11, four), client},
		{"v2 of IPv6", proxyV2(0x21, 0x21, six), "2001:db8:1:2::1"},
		{"v2 with more", proxyV2(0x21, 0x11, four, 0x04, 0, 2, 'x', 'y'), client},
		{"v2 LOCAL", proxyV2(0x20, 0x00, nil), ""},
		{"v2 LOCAL with an address", proxyV2(0x20, 0x11, four), ""},
	}
	for _, tc := range proxied {
		g.isFrom(t, tc.name, tc.header+g.forwarded(), tc.address)
	}
	// Behind one proxy may be another.
	g.isFrom(t, "PROXY and a header from a proxy", "PROXY TCP4 10.0.0.9 198.51.100.1 1 2\r\n"+g.forwarded(client), client)
	g.isFrom(t, "PROXY and a header from a client", proxied[0].header+g.forwarded("198.51.100.7"), client)

	for _, tc := range proxied {
		conn := g.dialTCP(t)
		for i := range len(tc.header) - 1 {
			if _, err := io.WriteString(conn, tc.header[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		// It gets in, or would: the one before may not be quite gone.
		limited(t, askOn(t, conn, tc.header[len(tc.header)-1:]+g.forwarded()))
	}

	for name, header := range map[string]string{
		"v1 without an end":      "PROXY TCP4 " + strings.Repeat("1", 200),
		"v1 of 108 bytes":        "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n",
		"v1 without addresses":   "PROXY TCP4\r\n",
		"v1 with half of them":   "PROXY TCP4 192.0.2.1 198.51.100.1\r\n",
		"v1 of another protocol": "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
		"v1 with a wrong family": "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
		"v1 with garbage":        "PROXY TCP4 evil <script> 1 2\r\n",
		"v1 with a large port":   "PROXY TCP4 192.0.2.1 198.51.100.1 99999 2\r\n",
		"v1 in small letters":    "proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
		"v1 twice":               proxied[0].header + proxied[0].header,
		"v1 and v2":              proxied[0].header + proxyV2(0x21, 0x11, four),
		"v2 of 64 KB":            proxyV2(0x21, 0x11, four)[:14] + "\xff\xff",
		"v2 of 2 KiB and 1":      proxyV2(0x21, 0x11, four)[:14] + "\x08\x01",
		"v2 of another version":  proxyV2(0x31, 0x11, four),
		"v2 of another command":  proxyV2(0x2f, 0x11, four),
		// A proxy that does not know for whom says LOCAL; the specification
		// leaves it to the receiver to take this or not.
		"v2 of no family":       proxyV2(0x21, 0x00, nil),
		"v2 too short for both": proxyV2(0x21, 0x21, nil, four...),
	} {
		if got := ask(t, g.addr, header+g.forwarded()); got.status != http.StatusBadRequest || got.code != "malformed" {
			t.Errorf("%s gets %s", name, got.all)
		}
	}

	// A header that ends in its middle gets no answer, and is not kept.
	for _, tc := range proxied {
		for _, n := range []int{1, 5, 6, len(tc.header) - 1} {
			conn := g.dialTCP(t)
			if _, err := io.WriteString(conn, tc.header[:n]); err != nil {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(comesWithin)); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(conn); len(b) > 0 || err != nil {
				t.Errorf("%d bytes of %s get %q, %v", n, tc.name, b, err)
			}
		}
	}
	eventually(t, "nothing of them is left", func() bool { return g.metric("pushgate_half_open") == "0" })
}

func (r *running) dialTCP(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn) // which sends each write at once
}

func TestSessionsOfAnAddress(t *testing.T) {
	g := startGateway(t, "GATEWAY_LIMITS_PER_ADDRESS=3", trustedProxies)
	const from = "X-Forwarded-For: 192.0.2.1"
	// Three users share an address, and each its limit.
	leave := []func(){g.hold(from), g.hold(from), g.hold(from)}
	for range 2 {
		if !limited(t, ask(t, g.addr, g.forwarded("192.0.2.1"))) {
			t.Error("a fourth session gets in")
		}
	}
	if limited(t, ask(t, g.addr, g.forwarded("192.0.2.2"))) {
		t.Error("another address is limited too")
	}
	// A refused token takes no place, and gives none back.
	if got := ask(t, g.addr, wsRequest("/v1/ws", from, bearerLine(canary))); got.status != http.StatusUnauthorized {
		t.Errorf("a bad token gets %d", got.status)
	}
	if !limited(t, ask(t, g.addr, g.forwarded("192.0.2.1"))) {
		t.Error("a fourth session gets in after a bad token")
	}
	leave[0]()
	leave[0] = g.hold(from) // waits for the place
	if !limited(t, ask(t, g.addr, g.forwarded("192.0.2.1"))) {
		t.Error("a place was given back twice")
	}
	for _, l := range leave {
		l()
	}
	eventually(t, "all are gone", func() bool { return g.metric(`pushgate_sessions{transport="websocket"}`) == "0" })
	for range 3 {
		defer g.hold(from)()
	}
	if !limited(t, ask(t, g.addr, g.forwarded("192.0.2.1"))) {
		t.Error("there are more places than before")
	}
}

// TestHandshakePaces asks again and again: so many a second are served.
func TestHandshakePaces(t *testing.T) {
	const limit = 3
	g := startGateway(t, fmt.Sprint("GATEWAY_LIMITS_HANDSHAKES_PER_ADDRESS=", limit), trustedProxies)
	untilRefused(t, limit, func() bool { return limited(t, ask(t, g.addr, g.forwarded("192.0.2.1"))) })
	if limited(t, ask(t, g.addr, g.forwarded("192.0.2.2"))) {
		t.Error("another address is limited too")
	}
	eventually(t, "its next second comes", func() bool { return !limited(t, ask(t, g.addr, g.forwarded("192.0.2.1"))) })
	// Bad tokens count, and beyond the limit they are not even looked at.
	tries, refused := 0, func() int {
		return counters(g.page(g.admin.addr, "/metrics"), "pushgate_token_refusals_total")["malformed"]
	}
	untilRefused(t, 1, func() bool {
		got := ask(t, g.addr, wsRequest("/v1/ws", "X-Forwarded-For: 192.0.2.3", bearerLine(canary)))
		if got.status == http.StatusUnauthorized {
			tries++
			return false
		}
		return limited(t, got)
	})
	if n := refused(); n != tries {
		t.Errorf("%d tokens were looked at, %d were answered", n, tries)
	}

	g = startGateway(t, fmt.Sprint("GATEWAY_LIMITS_HANDSHAKES_PER_USER=", limit), trustedProxies)
	n := 0
	as := func(user string) bool {
		n++ // each from an address of its own
		return limited(t, ask(t, g.addr, wsRequest("/v1/ws", bearerLine(g.token(user)), fmt.Sprint("X-Forwarded-For: 192.0.2.", n%250))))
	}
	untilRefused(t, limit, func() bool { return as("alice") })
	if as("bob") {
		t.Error("another user is limited too")
	}
	eventually(t, "the user's next second comes", func() bool { return !as("alice") })
}

// untilRefused tries until it is refused, which must happen, but not before
// the limit.
func untilRefused(t *testing.T, limit int, refused func() bool) {
	t.Helper()
	for n := range 1000 {
		if refused() {
			if n < limit {
				t.Errorf("only %d were served", n)
			}
			return
		}
	}
	t.Error("1000 were served")
}
