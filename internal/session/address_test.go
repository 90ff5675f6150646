package session

import (
	"bytes"
	"hash/maphash"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func networks(all ...string) []netip.Prefix {
	var n []netip.Prefix
	for _, s := range all {
		n = append(n, netip.MustParsePrefix(s))
	}
	return n
}

func TestClientAddr(t *testing.T) {
	h := &Hub{cfg: Config{Trusted: networks("10.0.0.0/8", "fd00::/8")}}
	for _, tc := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1", "", "192.0.2.1"},
		{"192.0.2.1", "198.51.100.1", "192.0.2.1"}, // it is no proxy of ours
		{"10.1.1.1", "", "10.1.1.1"},
		{"10.1.1.1", "198.51.100.1", "198.51.100.1"},
		{"10.1.1.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"}, // the first one is made up
		{"10.1.1.1", "198.51.100.1, 10.2.2.2", "198.51.100.1"},
		{"10.1.1.1", "203.0.113.9,198.51.100.1 ,\t10.2.2.2", "198.51.100.1"},
		{"10.1.1.1", "10.3.3.3, 10.2.2.2", "10.3.3.3"},
		{"10.1.1.1", "198.51.100.1:4711", "198.51.100.1"},
		{"10.1.1.1", "[2001:db8::1]:4711", "2001:db8::1"},
		{"10.1.1.1", "[2001:db8::1]", "2001:db8::1"},
		{"10.1.1.1", "2001:db8::1", "2001:db8::1"},
		{"10.1.1.1", "::ffff:198.51.100.1", "198.51.100.1"},
		{"fd00::1", "198.51.100.1", "198.51.100.1"},
		{"10.1.1.1", "unknown", "10.1.1.1"},
		{"10.1.1.1", "198.51.100.1, unknown", "10.1.1.1"},
		{"10.1.1.1", "198.51.100.1,", "10.1.1.1"},
		{"10.1.1.1", "fe80::1%eth0", "fe80::1"},
		{"10.1.1.1", "198.51.100.1, unknown, 10.2.2.2", "10.2.2.2"},
	} {
		if got := h.clientAddr(netip.MustParseAddr(tc.peer), tc.forwarded); got.String() != tc.want {
			t.Errorf("%s for %q is %s, want %s", tc.peer, tc.forwarded, got, tc.want)
		}
	}
}

// TestNobodyForgesAnAddress: whatever stands left of what our proxies have
// added changes nothing.
func TestNobodyForgesAnAddress(t *testing.T) {
	h := &Hub{cfg: Config{Trusted: networks("10.0.0.0/8")}}
	ours := rapid.SliceOfN(rapid.SampledFrom([]string{"10.1.1.1", "10.2.2.2"}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		forged := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"10.9.9.9", "1.2.3.4", "1.2.3.4, 10.1.1.1"})).Draw(t, "forged")
		chain := append([]string{forged, "198.51.100.1"}, ours.Draw(t, "ours")...)
		if got := h.clientAddr(netip.MustParseAddr("10.3.3.3"), strings.Join(chain, ", ")); got.String() != "198.51.100.1" {
			t.Fatalf("%q makes it %s", chain, got)
		}
	})
}

func TestAddrKey(t *testing.T) {
	h := &Hub{seed: maphash.MakeSeed()}
	key := func(s string) uint32 { return h.addrKey(netip.MustParseAddr(s)) }
	if key("2001:db8:1:1::1") != key("2001:db8:1:1:ffff::2") {
		t.Error("a /64 has two keys")
	}
	if key("2001:db8:1:1::1") == key("2001:db8:1:2::1") || key("192.0.2.1") == key("192.0.2.2") {
		t.Error("two have one key")
	}
}

func TestQuotaAndPace(t *testing.T) {
	q := quota{limit: 2}
	first, second := q.take(1), q.take(1)
	if !first || !second || q.take(1) || !q.take(2) {
		t.Error("the quota is not two each")
	}
	q.give(1)
	if !q.take(1) || q.take(1) {
		t.Error("what was given back is not there")
	}
	for range 2 {
		q.give(1)
	}
	if q.give(2); len(q.held) != 0 {
		t.Errorf("%d keys are kept of nobody", len(q.held))
	}
	p := pace{limit: 2}
	now := time.Unix(1000, 0)
	if !p.allow(1, now) || !p.allow(1, now.Add(time.Second-1)) || p.allow(1, now) || !p.allow(2, now) {
		t.Error("the pace is not two a second each")
	}
	if !p.allow(1, now.Add(time.Second)) || len(p.done) != 1 {
		t.Error("the next second does not begin anew")
	}
	var none quota
	var any pace
	for range 10 {
		if !none.take(1) || !any.allow(1, now) {
			t.Fatal("no limit refuses")
		}
	}
	if none.held != nil || any.done != nil {
		t.Error("no limit costs memory")
	}
}

const proxyV2Head = "\r\n\r\n\x00\r\nQUIT\n"

func TestProxyHeader(t *testing.T) {
	v4 := proxyV2Head + "\x21\x11\x00\x0c\xc6\x33\x64\x01\x0a\x00\x00\x01\x12\x67\x00\x50"
	for _, tc := range []struct {
		name, sent, peer, rest string
		err                    error
	}{
		{"none", "GET / HTTP/1.1\r\n", "10.0.0.1", "GET / HTTP/1.1\r\n", nil},
		{"like one", "PROPFIND / HTTP/1.1\r\n", "10.0.0.1", "PROPFIND / HTTP/1.1\r\n", nil},
		{"text", "PROXY TCP4 198.51.100.1 10.0.0.1 4711 80\r\nGET", "198.51.100.1", "GET", nil},
		{"text, IPv6", "PROXY TCP6 2001:db8::1 fd00::1 4711 80\r\nGET", "2001:db8::1", "GET", nil},
		{"text, unknown", "PROXY UNKNOWN\r\nGET", "10.0.0.1", "GET", nil},
		{"binary", v4 + "GET", "198.51.100.1", "GET", nil},
		{"binary, local", proxyV2Head + "\x20\x00\x00\x00GET", "10.0.0.1", "GET", nil},
		{"binary with more", proxyV2Head + "\x21\x11\x00\x10\xc6\x33\x64\x01\x0a\x00\x00\x01\x12\x67\x00\x50\x04\x00\x01\x00GET", "198.51.100.1", "GET", nil},
		{"text, nonsense", "PROXY TCP4 x y 1 2\r\nGET", "", "", errProxy},
		{"text, bare LF", "PROXY TCP4 198.51.100.1 10.0.0.1 4711 80\nGET", "", "", errProxy},
		{"text, endless", "PROXY TCP4 " + strings.Repeat("1", 200), "", "", errProxyLong},
		{"binary, too long", proxyV2Head + "\x21\x11\xff\xff", "", "", errProxyLong},
		{"binary, version 3", proxyV2Head + "\x31\x11\x00\x0c" + strings.Repeat("x", 12) + "GET", "", "", errProxy},
		{"binary, short", proxyV2Head + "\x21\x11\x00\x04\xc6\x33\x64\x01GET", "", "", errProxy},
	} {
		// In one piece, and byte by byte.
		for _, step := range []int{len(tc.sent), 1} {
			hd := &head{peer: netip.MustParseAddr("10.0.0.1")}
			var err error
			for i := 0; i < len(tc.sent) && err == nil; i += step {
				hd.buf = append(hd.buf, tc.sent[i:i+step]...)
				if !hd.proxied {
					err = hd.readProxyHeader()
				}
			}
			if err != tc.err || err == nil && (hd.peer.String() != tc.peer || string(hd.buf) != tc.rest || !hd.proxied) {
				t.Errorf("%s by %d: %s, rest %q, %v", tc.name, step, hd.peer, hd.buf, err)
			}
		}
	}
}

// FuzzProxyHeader: whatever a proxy sends, in whatever pieces, is read the same
// way, and what stands behind the header is not touched.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 198.51.100.1 10.0.0.1 4711 80\r\nGET / HTTP/1.1\r\n"))
	f.Add([]byte(proxyV2Head + "\x21\x11\x00\x0c\xc6\x33\x64\x01\x0a\x00\x00\x01\x12\x67\x00\x50GET"))
	f.Add([]byte(proxyV2Head + "\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		whole := &head{buf: bytes.Clone(sent)}
		err := whole.readProxyHeader()
		if err == nil && !bytes.HasSuffix(sent, whole.buf) {
			t.Fatalf("%q left %q", sent, whole.buf)
		}
		pieces := &head{}
		for i := range sent {
			pieces.buf = append(pieces.buf, sent[i])
			if pieces.proxied {
				continue
			}
			if pieceErr := pieces.readProxyHeader(); pieceErr != nil {
				if err == nil {
					t.Fatalf("%q is good in one piece: %v", sent, pieceErr)
				}
				return
			}
		}
		if err == nil && (whole.peer != pieces.peer || !bytes.Equal(whole.buf, pieces.buf)) {
			t.Fatalf("%q: %s %q, in pieces %s %q", sent, whole.peer, whole.buf, pieces.peer, pieces.buf)
		}
	})
}
