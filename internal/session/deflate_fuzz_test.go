package session

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"testing"
)

// FuzzDeflatedFrames is FuzzFrames for a session that negotiated compression.
func FuzzDeflatedFrames(f *testing.F) {
	f.Add([]byte(masked(0xc1, "\xaa\x56\x2a\xa9\x2c\x48\x55\xb2\x52\x2a\xc8\xcc\x4b\x57\xaa\x05\x00")), []byte{1, 3})
	h := readerHub(f)
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		want, err := feedAs(h, flagDeflate, data, whole)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		got, err := feedAs(h, flagDeflate, data, func() int {
			if at++; len(cuts) == 0 {
				return 1
			}
			return int(cuts[at%len(cuts)])
		})
		if err != nil || got != want {
			t.Fatalf("in pieces %#v, %v; at once %#v", got, err, want)
		}
	})
}

// FuzzInflate: what a client compressed is as a plain reader has it, within the
// bound, whatever was inflated before; and what the gateway compresses is what
// it was.
func FuzzInflate(f *testing.F) {
	f.Add([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"), []byte("\xf2\x00\x11\x00\x00"))
	const limit = 4 << 10
	f.Fuzz(func(t *testing.T, before, data []byte) {
		var fresh, used inflater
		want, long, ok := fresh.inflate(data, limit)
		used.inflate(before, limit)
		got, usedLong, usedOK := used.inflate(data, limit)
		if !bytes.Equal(got, want) && ok || usedLong != long || usedOK != ok {
			t.Fatalf("behind another: %q, %v, %v; alone: %q, %v, %v", got, usedLong, usedOK, want, long, ok)
		}
		if len(want) > limit {
			t.Fatalf("%d bytes come out", len(want))
		}
		in := io.MultiReader(bytes.NewReader(data), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
		plain, err := io.ReadAll(io.LimitReader(flate.NewReader(in), limit+1))
		if tooLong := len(plain) > limit; tooLong != long || !tooLong && ((err == nil) != ok || ok && !bytes.Equal(plain, want)) {
			t.Fatalf("%d bytes and %v; here %d, %v, %v", len(plain), err, len(want), long, ok)
		}
		frame := finishText(append(beginFrame(nil), data...))
		for _, wide := range []bool{false, true} {
			small := deflated(frame, wide)
			if len(small) > len(frame) || frameEnd(small, 0) != len(small) {
				t.Fatalf("%d bytes become %d", len(frame), len(small))
			}
			if small[0]&rsv1 == 0 {
				continue
			}
			back, _, ok := used.inflate(small[frameHead(small):], len(data))
			if !ok || !bytes.Equal(back, data) {
				t.Fatalf("%q comes back as %q, %v", data, back, ok)
			}
		}
	})
}

// FuzzOffers: an offer is taken with an answer that RFC 7692 allows to it, or
// not at all.
func FuzzOffers(f *testing.F) {
	f.Add("permessage-deflate; server_max_window_bits=15; client_max_window_bits, permessage-deflate")
	const answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	f.Fuzz(func(t *testing.T, offers string) {
		got := negotiateDeflate(offers)
		switch got {
		case "":
			return
		case answer, answer + "; server_max_window_bits=15":
		default:
			t.Fatalf("%q is answered %q", offers, got)
		}
		if !strings.Contains(offers, "permessage-deflate") {
			t.Fatalf("%q was taken", offers)
		}
		if strings.HasSuffix(got, "15") && !strings.Contains(offers, "server_max_window_bits") {
			t.Fatalf("%q is answered %q", offers, got)
		}
	})
}
