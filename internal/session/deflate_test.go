package session

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"pushgate/api"
)

func TestNegotiateDeflate(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for offer, want := range map[string]string{
		"":                   "",
		"permessage-deflate": plain,
		"permessage-deflate; client_max_window_bits":                                            plain,
		"permessage-deflate; client_max_window_bits=9":                                          plain,
		"permessage-deflate; server_no_context_takeover; client_no_context_takeover":            plain,
		"permessage-deflate; server_max_window_bits=15":                                         plain + "; server_max_window_bits=15",
		"permessage-deflate; server_max_window_bits=14":                                         "",
		"permessage-deflate; server_max_window_bits=10, permessage-deflate":                     plain,
		"permessage-deflate; server_max_window_bits=7":                                          "",
		"permessage-deflate; server_max_window_bits":                                            "",
		"permessage-deflate; no_such_parameter":                                                 "",
		"permessage-deflate; server_no_context_takeover=1":                                      "",
		"permessage-deflate; server_no_context_takeover; server_no_context_takeover":            "",
		"x-webkit-deflate-frame":                                                                "",
		"x-webkit-deflate-frame, permessage-deflate":                                            plain,
		"permessage-deflate; client_max_window_bits=16":                                         "",
		"permessage-deflate; client_max_window_bits; server_max_window_bits=8, foo;bar=\"a,b\"": "",
		"foo;bar=\"permessage-deflate\", permessage-deflate; client_max_window_bits":            plain,
		"permessage-deflate; server_max_window_bits=\"15\"":                                     plain + "; server_max_window_bits=15",
		";;;": "",
	} {
		if got := negotiateDeflate(offer); got != want {
			t.Errorf("%q is answered %q, want %q", offer, got, want)
		}
	}
}

func (h *testHub) dialDeflate(t *testing.T, token string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, "ws://"+h.addr+"/v1/ws", &websocket.DialOptions{
		HTTPHeader:           http.Header{"Authorization": {"Bearer " + token}},
		CompressionMode:      websocket.CompressionNoContextTakeover,
		CompressionThreshold: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(got, "permessage-deflate") {
		t.Fatalf("negotiated %q", got)
	}
	conn.SetReadLimit(1 << 20)
	c := &client{Conn: conn, tb: t}
	c.welcome = c.next()
	return c
}

// TestDeflate: whoever negotiated it gets events compressed, beside those who
// did not, and may compress what it says itself.
func TestDeflate(t *testing.T) {
	h := startHub(t, func(c *Config) { c.Compression, c.Loops = true, 1 })
	plain, small := h.dial(t, "alice"), h.dialDeflate(t, "alice")
	text := strings.Repeat("every few words the same, ", 100)
	h.Deliver([]api.Event{event("user.alice", `"`+text+`"`), event("user.alice", `"short"`)})
	for _, c := range []*client{plain, small} {
		if a, b := c.next()["data"], c.next()["data"]; a != text || b != "short" {
			t.Errorf("got %.40v and %v", a, b)
		}
	}
	small.say(`{"type":"ping","ref":"` + strings.Repeat("r", 60) + `"}`)
	if got := small.next(); got["type"] != "pong" {
		t.Errorf("a compressed ping is answered with %v", got)
	}
	// Many takers, so that it goes out in slices.
	many := make([]*client, 0, sliceSize)
	for i := range sliceSize {
		many = append(many, h.dialDeflate(t, fmt.Sprint("u", i)))
	}
	h.Deliver([]api.Event{event("broadcast", `"`+text+`"`), event("broadcast", `"`+text+`"`)})
	for _, c := range append(many, plain, small) {
		if a, b := c.next()["data"], c.next()["data"]; a != text || b != text {
			t.Errorf("got %.40v and %.40v", a, b)
		}
	}
}

func TestDeflatedFrames(t *testing.T) {
	for _, wide := range []bool{false, true} {
		e := event("a", `"`+strings.Repeat("0123456789", 200)+`"`)
		d := &delivery{event: e}
		d.wide.Store(wide)
		frame, text := d.encoded(encodingDeflate), d.text()
		if &d.encoded(encodingDeflate)[0] != &frame[0] {
			t.Error("it is compressed twice")
		}
		if frame[0] != 0xc1 || len(frame)*5 > len(text) || frameEnd(frame, 0) != len(frame) {
			t.Fatalf("%d bytes, first %#x, for %d", len(frame), frame[0], len(text))
		}
		r := flate.NewReader(io.MultiReader(bytes.NewReader(frame[frameHead(frame):]), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, d.payload()) {
			t.Errorf("%q, %v", got, err)
		}
	}
	short := &delivery{event: event("a", "1")}
	if &short.encoded(encodingDeflate)[0] != &short.text()[0] {
		t.Error("a short event is compressed")
	}
}

// TestRingCountsVariants: what an event takes in a second encoding is part of
// the ring's account, as long as it is in the ring.
func TestRingCountsVariants(t *testing.T) {
	var r ring
	r.limit = 1 << 20
	r.clear(0)
	text := &delivery{event: event("a", `"`+strings.Repeat("0123456789", 200)+`"`)}
	text.event.Seq = 1
	r.add(text, time.Now())
	_, before := r.size()
	frame := text.encoded(encodingDeflate)
	if _, after := r.size(); after != before+int64(len(frame)) {
		t.Errorf("the ring grew from %d to %d by %d bytes", before, after, len(frame))
	}
	r.skip(2)
	next := &delivery{event: event("a", `"`+strings.Repeat("0123456789", 200)+`"`)}
	next.event.Seq = 3
	r.add(next, time.Now())
	_, before = r.size()
	r.drop()
	next.encoded(encodingDeflate)
	if _, after := r.size(); after != 0 || before == 0 {
		t.Errorf("the empty ring holds %d bytes, before %d", after, before)
	}
}

// compressed is a client's message, compressed, with the flush's end cut off.
func compressed(text string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	_, _ = w.Write([]byte(text))
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

func TestDeflatedFromClients(t *testing.T) {
	h := startHub(t, func(c *Config) { still(c); c.Compression = true })
	ping := compressed(`{"type":"ping","ref":"1"}`)
	for name, c := range map[string]struct {
		frames string
		code   int // -1: a pong
	}{
		"whole":                {masked(0xc1, ping), -1},
		"fragments":            {masked(0x41, ping[:5]) + masked(0x00, ping[5:9]) + masked(0x80, ping[9:]), -1},
		"plain beside":         {masked(0x81, `{"type":"ping"}`), -1},
		"rsv1 on continuation": {masked(0x41, ping[:5]) + masked(0xc0, ping[5:]), 1002},
		"rsv1 on control":      {masked(0xc9, "x"), 1002},
		"rsv2":                 {masked(0xa1, ping), 1002},
		"no deflate":           {masked(0xc1, "\xff\xff\xff\xff"), 1007},
		"not UTF-8":            {masked(0xc1, compressed("\xff")), 1007},
		"a bomb":               {masked(0xc1, compressed(strings.Repeat("x", 1<<20))), 1009},
		"exactly the limit":    {masked(0xc1, compressed(`{"type":"ping","ref":"1"}`+strings.Repeat(" ", 4096-25))), -1},
		"one byte more":        {masked(0xc1, compressed(`{"type":"ping","ref":"1"}`+strings.Repeat(" ", 4097-25))), 1009},
	} {
		t.Run(name, func(t *testing.T) {
			conn := h.connect(t)
			head := strings.TrimSuffix(upgradeHead("alice"), "\r\n") + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
			conn.write(head)
			if resp, err := http.ReadResponse(conn.r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(resp, err)
			}
			conn.write(c.frames + masked(0x88, "\x0b\xb8")) // 3000 comes back where nothing else ended it
			want := c.code
			if want < 0 {
				want = 3000
			}
			if got := conn.closeCode(); got != want {
				t.Errorf("closed with %d, want %d", got, want)
			}
		})
	}
	if n := h.Stats().Closes[api.ReasonInflate.String()]; n != 1 {
		t.Errorf("%d sessions ended for bad compression, want 1", n)
	}
}

func TestNoDeflateUnlessAsked(t *testing.T) {
	h := startHub(t, still) // compression is off
	conn := h.connect(t)
	conn.write(strings.TrimSuffix(upgradeHead("alice"), "\r\n") + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	resp, err := http.ReadResponse(conn.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Fatal(resp, err)
	}
	conn.write(masked(0xc1, compressed("{}")))
	if got := conn.closeCode(); got != 1002 {
		t.Errorf("a compressed frame that was not negotiated closes with %d", got)
	}
}

func BenchmarkDeflate(b *testing.B) {
	e := event("user.alice", `{"items":[`+strings.TrimSuffix(strings.Repeat(`{"id":17,"price":"12.30","name":"something else"},`, 40), ",")+`]}`)
	for _, wide := range []bool{false, true} {
		b.Run(fmt.Sprint("wide=", wide), func(b *testing.B) {
			frame := (&delivery{event: e}).text()
			b.ReportAllocs()
			for b.Loop() {
				deflated(frame, wide)
			}
			b.ReportMetric(float64(len(deflated(frame, wide)))/float64(len(frame)), "ratio")
		})
	}
}
