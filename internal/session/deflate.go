package session

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"sync"

	"github.com/gobwas/httphead"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	kflate "github.com/klauspost/compress/flate"
)

// permessage-deflate (RFC 7692), without context takeover either way: nothing
// is kept between messages, so that an idle session costs nothing, and one
// compressed frame serves everybody who negotiated it.

// negotiateDeflate chooses the first offer that can be taken and returns the
// answer to it, "" for none. A smaller window than flate's own 32 KiB cannot be
// promised.
func negotiateDeflate(offers string) string {
	if offers == "" {
		return ""
	}
	options, ok := httphead.ParseOptions([]byte(offers), nil)
	if !ok {
		return "" // RFC 7692 §5.1: what cannot be read is declined
	}
	for _, o := range options {
		var p wsflate.Parameters
		if string(o.Name) != wsflate.ExtensionName || p.Parse(o) != nil || !plainOffer(o) {
			continue
		}
		const answer = wsflate.ExtensionName + "; server_no_context_takeover; client_no_context_takeover"
		switch {
		case !p.ServerMaxWindowBits.Defined():
			return answer
		case p.ServerMaxWindowBits == 15:
			return answer + "; server_max_window_bits=15"
		}
	}
	return ""
}

// plainOffer sees to what the library lets pass: a parameter that comes twice,
// and a number that begins with a zero (RFC 7692 §7.1, §7.1.2.1).
func plainOffer(o httphead.Option) bool {
	seen, ok := map[string]bool{}, true
	o.Parameters.ForEach(func(name, value []byte) bool {
		ok = !seen[string(name)] && !bytes.HasPrefix(value, []byte("0"))
		seen[string(name)] = true
		return ok
	})
	return ok
}

const (
	// minDeflate is the shortest event that is worth compressing.
	minDeflate = 192
	// rsv1 marks a compressed message (RFC 7692 §6).
	rsv1 = 0x40
)

// deflaters are by effort: a little for an event that few get, more for one
// that goes to many.
var deflaters = [2]sync.Pool{{New: func() any { return newDeflater(1) }}, {New: func() any { return newDeflater(6) }}}

func newDeflater(level int) *kflate.Writer {
	w, err := kflate.NewWriter(io.Discard, level)
	if err != nil {
		panic(err) // the levels are written here
	}
	return w
}

// deflated is a text frame, compressed; or the same frame where that is no
// gain.
func deflated(frame []byte, wide bool) []byte {
	payload := frame[frameHead(frame):]
	if len(payload) < minDeflate {
		return frame
	}
	effort := 0
	if wide {
		effort = 1
	}
	w := deflaters[effort].Get().(*kflate.Writer)
	defer deflaters[effort].Put(w)
	var out bytes.Buffer
	out.Grow(frameRoom + len(payload)/2)
	out.Write(make([]byte, frameRoom))
	w.Reset(&out)
	if _, err := w.Write(payload); err != nil {
		return frame
	}
	if err := w.Flush(); err != nil {
		return frame
	}
	// A flush ends with an empty stored block, which is not sent (§7.2.1).
	small := bytes.TrimSuffix(out.Bytes(), []byte("\x00\x00\xff\xff"))
	if len(small)-frameRoom >= len(payload) {
		return frame
	}
	small = finishText(small)
	small[0] |= rsv1
	return bytes.Clone(small)
}

// inflater reads what clients compressed. A loop has one, made when the first
// of its clients does.
type inflater struct {
	r   io.ReadCloser
	out bytes.Buffer
}

// inflate returns the message that a client compressed, until the next call; ok
// is false when it is none, long when it is larger than limit.
func (f *inflater) inflate(payload []byte, limit int) (message []byte, long, ok bool) {
	// The block that the client left out, and one that ends the stream (§7.2.2).
	in := io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
	if f.r == nil {
		f.r = flate.NewReader(in)
	} else if err := f.r.(flate.Resetter).Reset(in, nil); err != nil {
		return nil, false, false
	}
	if f.out.Cap() > 2*keptBuffer {
		f.out = bytes.Buffer{}
	}
	f.out.Reset()
	n, err := io.Copy(&f.out, io.LimitReader(f.r, int64(limit)+1))
	if n > int64(limit) {
		return nil, true, true
	}
	return f.out.Bytes(), false, err == nil
}

// isDeflated reports whether a frame begins a compressed message.
func isDeflated(h ws.Header) bool { return h.Rsv == ws.Rsv(true, false, false) }
