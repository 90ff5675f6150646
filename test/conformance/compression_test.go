package conformance

import (
	"fmt"
	"strings"
	"testing"
)

// plainOffer is what the original's client offers, and browsers nearly do.
const plainOffer = "permessage-deflate; client_no_context_takeover; client_max_window_bits"

// TestCompression are groups 12 and 13: messages of many sizes and kinds, whole
// and in fragments, with all that a client can ask for.
func TestCompression(t *testing.T) {
	all := corpora()
	var cases []testCase
	for i := range all {
		cases = append(cases, sizes(fmt.Sprintf("12.%d", i+1), plainOffer, &all[i])...)
	}
	const none, bits = "; server_no_context_takeover", "; server_max_window_bits="
	for i, offers := range []string{
		plainOffer, plainOffer + none, plainOffer + bits + "8", plainOffer + bits + "15",
		plainOffer + none + bits + "8", plainOffer + none + bits + "15",
		plainOffer + none + bits + "8, " + plainOffer + none + ", " + plainOffer,
	} {
		group := sizes(fmt.Sprintf("13.%d", i+1), offers, &all[3])
		for j := range group {
			// A window of 256 bytes is declined: everybody shares what is compressed once.
			group[j].unimplemented = i == 2 || i == 4
		}
		cases = append(cases, group...)
	}
	playAll(t, startGateway(t, *tags), cases)
}

// sizes are the 18 cases of a group.
func sizes(group, offers string, data *corpus) (all []testCase) {
	for i, s := range []struct{ size, fragment int }{
		{16, 0}, {64, 0}, {256, 0}, {1 << 10, 0}, {4 << 10, 0}, {8 << 10, 0}, {16 << 10, 0}, {32 << 10, 0}, {64 << 10, 0}, {128 << 10, 0},
		{8 << 10, 256}, {16 << 10, 256}, {32 << 10, 256}, {64 << 10, 256}, {128 << 10, 256},
		{128 << 10, 1 << 10}, {128 << 10, 4 << 10}, {128 << 10, 32 << 10},
	} {
		count := 1000
		if !*full {
			count = min(max(64<<10/s.size, 1), 10)
		}
		all = append(all, compressed(fmt.Sprintf("%s.%d", group, i+1), offers, data, s.size, s.fragment, count))
	}
	return all
}

// compressed sends messages, each when the one before is back. Where nothing
// was negotiated they go as they are.
func compressed(id, offers string, data *corpus, size, fragment, count int) testCase {
	return testCase{
		id: id, offers: offers, end: fine,
		run: func(c *client) {
			for i := range count {
				m := message("", data.op, data.message(i, size), nil).want[0]
				c.send(c.framesOf(data.op, m.payload, fragment)...)
				if !c.await(patience, func() bool { return len(c.events) > 0 }) || c.events[0] != m {
					c.events = append(c.events, event{"want", m.payload}) // nothing of it is right
					return
				}
				c.events = c.events[:0]
			}
			if c.deflate != nil && size >= 1<<10 && data.op == opText && c.deflate.unpacked == 0 {
				c.broken = fmt.Errorf("%d messages of %d bytes came back, and none of them compressed", count, size)
			}
		},
	}
}

// framesOf makes the frames of a message, compressed where that was negotiated.
func (c *client) framesOf(op byte, message string, fragment int) []frame {
	rsv := byte(0)
	if c.deflate != nil {
		message, rsv = c.deflate.pack(message), 4
	}
	if fragment == 0 {
		fragment = max(1, len(message))
	}
	frames := fragments(op, message, fragment)
	frames[0].rsv = rsv
	return frames
}

// TestCompressedFrames is what the catalogue does not have: messages that are
// made otherwise than usual, and such as must end the connection.
func TestCompressedFrames(t *testing.T) {
	hello := []event{{"text", "Hello"}}
	const shared = "\xf2\x48\xcd\xc9\xc9\x07\x00" // "Hello" in RFC 7692 §7.2.3.1
	rsv1 := func(f frame) frame { f.rsv = 4; return f }
	sends := func(id string, want []event, end ending, frames ...frame) testCase {
		return testCase{id: id, offers: plainOffer, want: want, end: end, run: func(c *client) { c.send(frames...) }}
	}
	d := newDeflater()
	cases := []testCase{
		sends("one block", hello, fine, rsv1(text(shared))),
		sends("two fragments", hello, fine, rsv1(part(opText, false, shared[:3])), part(opContinuation, true, shared[3:])),
		sends("a ping between fragments", append([]event{{"pong", "x"}}, hello...), fine,
			rsv1(part(opText, false, shared[:3])), ping("x"), part(opContinuation, true, shared[3:])),
		sends("an empty last fragment", hello, fine, rsv1(part(opText, false, shared)), part(opContinuation, true, "")),
		sends("a block that is not compressed", hello, fine, rsv1(text("\x00\x05\x00\xfa\xffHello\x00"))),
		sends("a last block", hello, fine, rsv1(text("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))),
		sends("two blocks", hello, fine, rsv1(text("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"))),
		sends("nothing, compressed", []event{{"text", ""}}, fine, rsv1(text("\x00"))),
		sends("not compressed", hello, fine, text("Hello")),
		sends("one of each", append(hello, hello...), fine, rsv1(text(shared)), text("Hello")),
		sends("the flag on a continuation", nil, failedBy(1002), rsv1(part(opText, false, shared[:3])), rsv1(part(opContinuation, true, shared[3:]))),
		sends("the flag on a ping", nil, failedBy(1002), rsv1(ping("x"))),
		sends("another flag", nil, failedBy(1002), frame{op: opText, fin: true, rsv: 6, payload: shared}),
		sends("no deflate data", nil, failedBy(1002, 1007), rsv1(text("\xff\xff\xff\xff"))),
		sends("bad UTF-8 inside", nil, failedBy(1007), rsv1(text(d.pack(kosme+"\xed\xa0\x80edited")))),
		sends("half a character at the end", nil, failedBy(1007), rsv1(text(d.pack(kosme[:3])))),
		// §7.2.3.2: it points into the message before, which nobody has kept.
		sends("the context of the message before", hello, failedBy(1002, 1007), rsv1(text(shared)), rsv1(text("\xf2\x00\x11\x00\x00"))),
		sends("33 MiB in few bytes", nil, failedBy(1009), rsv1(text(d.pack(strings.Repeat("x", 33<<20))))),
	}
	playAll(t, startGateway(t, *tags), cases)
}

// TestOffers: what is not understood is declined, and the next offer counts.
func TestOffers(t *testing.T) {
	g := startGateway(t, *tags)
	for offers, taken := range map[string]bool{
		"permessage-deflate":                                                 true,
		"permessage-deflate; client_max_window_bits":                         true,
		"permessage-deflate; client_max_window_bits=15":                      true,
		"permessage-deflate; client_max_window_bits=10":                      true,
		"permessage-deflate; server_no_context_takeover":                     true,
		"permessage-deflate; server_max_window_bits=15":                      true,
		"x-webkit-deflate-frame, permessage-deflate":                         true,
		"permessage-deflate; mux, permessage-deflate":                        true,
		"x-webkit-deflate-frame":                                             false,
		"permessage-deflate; server_max_window_bits=8":                       false,
		"permessage-deflate; server_max_window_bits=14":                      false,
		"permessage-deflate; server_max_window_bits=7":                       false,
		"permessage-deflate; server_max_window_bits=16":                      false,
		"permessage-deflate; server_max_window_bits=015":                     false,
		"permessage-deflate; server_max_window_bits":                         false,
		"permessage-deflate; client_max_window_bits=16":                      false,
		"permessage-deflate; client_max_window_bits=x":                       false,
		"permessage-deflate; server_no_context_takeover=1":                   false,
		"permessage-deflate; client_no_context_takeover=1":                   false,
		"permessage-deflate; mux":                                            false,
		"permessage-deflate; client_max_window_bits; client_max_window_bits": false,
	} {
		c, err := dial(g, offers)
		if err != nil {
			t.Errorf("%s: %v", offers, err)
			continue
		}
		if (c.deflate != nil) != taken {
			t.Errorf("%s: taken %v, want %v", offers, c.deflate != nil, taken)
		}
		c.end()
	}
}
