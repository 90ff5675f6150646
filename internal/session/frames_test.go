package session

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"pushgate/api"
)

// readerHub is a bare hub whose one loop keeps all that it would send, so that
// frames can be read without a socket.
func readerHub(tb testing.TB) *Hub {
	h := newBareHub(tb, 1)
	h.cfg.OutboxBytes = 1 << 40
	return h
}

// discard frees a session that has no socket.
func (l *loop) discard(id uint32) {
	s := l.slots.at(id)
	if s.state == stateOpen {
		l.leaveIndex(id, s)
		l.stats.sessions[s.transport()].Add(-1)
	}
	if s.active != 0 {
		l.release(s)
	}
	l.slots.give(id)
	*l.slots.due(id) = 0
	l.hub.open.Add(-1)
	l.touched = l.touched[:0]
}

// fate is all that can be seen of a session that has read some bytes.
type fate struct {
	state       state
	why         api.Reason
	out         string // what it is to be sent
	in, message string // what is kept of a frame, of a message
	partial     bool
}

// outbox returns what waits for a session.
func (l *loop) outbox(s *slot) string {
	var b strings.Builder
	if s.active != 0 {
		for _, seg := range l.active[s.active].out {
			b.Write(seg.frames[seg.sent:])
		}
	}
	return b.String()
}

// feed gives a fresh session the bytes in the pieces that next says.
func feed(h *Hub, data []byte, next func() int) (fate, error) { return feedAs(h, 0, data, next) }

// feedAs is feed for a session with these flags.
func feedAs(h *Hub, flags uint8, data []byte, next func() int) (fate, error) {
	l, id := enrollUser(h, "alice", time.Now().Add(time.Hour).Unix())
	defer l.discard(id)
	s := l.slots.at(id)
	s.flags |= flags
	var before [len(l.stats.closes)]int64
	for i := range before {
		before[i] = l.stats.closes[i].Load()
	}
	kept := h.cfg.MessageBytes + 14
	for len(data) > 0 && s.state == stateOpen {
		n := min(max(next(), 1), len(data), inputSize)
		piece := bytes.Clone(data[:n])
		data = data[n:]
		l.take(id, s, piece)
		for i := range piece {
			piece[i] = 0xee // the buffer belongs to the next who reads
		}
		if s.active != 0 && s.state == stateOpen {
			if t := l.active[s.active]; len(t.in) >= kept || len(t.message) > h.cfg.MessageBytes {
				return fate{}, fmt.Errorf("%d bytes of a frame and %d of a message are kept", len(t.in), len(t.message))
			}
		}
	}
	f := fate{state: s.state, out: l.outbox(s)}
	if t := l.active[s.active]; s.active != 0 && s.state == stateOpen {
		f.in, f.message, f.partial = string(t.in), string(t.message), t.partial
	}
	ends := int64(0)
	for i := range before {
		if n := l.stats.closes[i].Load() - before[i]; n > 0 {
			f.why = api.Reason(i)
			ends += n
		}
	}
	if (ends == 1) != (s.state != stateOpen) || ends > 1 {
		return f, fmt.Errorf("state %d after %d endings", s.state, ends)
	}
	return f, f.defined()
}

// defined holds what is sent against RFC 6455: whole frames, one close frame
// at most, and that the last, with the code that the reason has.
func (f *fate) defined() error {
	out := f.out
	for len(out) > 0 {
		end := 2 + int(out[1])
		if out[1] == 126 {
			end = 4 + int(binary.BigEndian.Uint16([]byte(out[2:4])))
		}
		if end > len(out) {
			return fmt.Errorf("half a frame: %q", out)
		}
		first, frame, rest := out[0], out[2:end], out[end:]
		switch {
		case first == 0x8a || first == 0x81:
		case first == 0x88 && rest == "" && f.state != stateOpen:
			if f.why == api.ReasonClient { // its own code comes back
				return nil
			}
			if len(frame) < 2 || binary.BigEndian.Uint16([]byte(frame)) != f.why.Code() || frame[2:] != f.why.Text() {
				return fmt.Errorf("%s closes with %q", f.why, frame)
			}
			return nil
		default:
			return fmt.Errorf("frame %#x before %q", first, rest)
		}
		out = rest
	}
	if f.state != stateOpen {
		return fmt.Errorf("ended by %s without a close frame", f.why)
	}
	return nil
}

func whole() int { return inputSize }

// FuzzFrames: whatever comes, in whatever pieces, the session goes on or ends
// for one reason, and the pieces do not matter.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(masked(0x81, `{"type":"ping"}`)), []byte{1, 3})
	h := readerHub(f)
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		want, err := feed(h, data, whole)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		got, err := feed(h, data, func() int {
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

// clientFrame is a frame as a client may send it, rightly or not.
type clientFrame struct {
	first   byte
	payload string
	masked  bool
}

// GoString keeps the report of a failure short.
func (c clientFrame) GoString() string {
	return fmt.Sprintf("{%#x %.20q of %d, masked %v}", c.first, c.payload, len(c.payload), c.masked)
}

func (c clientFrame) bytes() string {
	b := masked(c.first, c.payload)
	if !c.masked {
		b = string([]byte{b[0], b[1] &^ 0x80}) + b[2:]
	}
	return b
}

// model reads frames by RFC 6455 and the contract, one after the other, and
// returns what is answered and the close code, -1 where the session goes on.
func model(frames []clientFrame) (answers []string, code int) {
	partial, message := false, ""
	for _, f := range frames {
		op, fin := f.first&15, f.first&0x80 != 0
		control := op >= 8
		switch {
		case op > 2 && op < 8 || op > 10, f.first&0x70 != 0, !f.masked:
			return answers, 1002
		case control && (!fin || len(f.payload) > 125):
			return answers, 1002
		case !control && partial != (op == 0):
			return answers, 1002
		case op == 2:
			return answers, 1003
		case !control && len(message)+len(f.payload) > 4<<10:
			return answers, 1009
		case op == 9:
			answers = append(answers, "pong "+f.payload)
			continue
		case op == 10:
			continue
		case op == 8:
			return answers, 1000 // the generator makes no others
		}
		message += f.payload
		if hopeless(message) {
			return answers, 1007
		}
		if partial = !fin; partial {
			continue
		}
		if !utf8.ValidString(message) {
			return answers, 1007
		}
		if c, err := api.ParseControl([]byte(message)); err != nil {
			answers = append(answers, string(api.AppendError(nil, c.Ref, api.CodeBadRequest, err.Error())))
		} else {
			answers = append(answers, string(api.AppendPong(nil, c.Ref, "")))
		}
		message = ""
	}
	return answers, -1
}

// hopeless reports whether no bytes behind it can make text valid.
func hopeless(text string) bool {
	for _, r := range []string{"", "\x80", "\x80\x80", "\x80\x80\x80", "\xa0", "\xa0\x80", "\x90\x80", "\x90\x80\x80"} {
		if utf8.ValidString(text + r) {
			return false
		}
	}
	return true
}

func TestFramesAgainstReference(t *testing.T) {
	h := readerHub(t)
	good := rapid.Custom(func(t *rapid.T) []clientFrame {
		text := rapid.SampledFrom([]string{
			`{"type":"ping"}`, `{"type":"ping","ref":"é😀"}`, `{}`, "[]", "", "\"\xff\"", "\xed\xa0\x80 and more", "\xe2\x82", "\xf4\x90",
			strings.Repeat("x", 4096), strings.Repeat("é", 2048), strings.Repeat("x", 4097),
		}).Draw(t, "text")
		var frames []clientFrame
		op := byte(1)
		for range rapid.IntRange(0, 3).Draw(t, "fragments") {
			n := rapid.IntRange(0, len(text)).Draw(t, "bytes")
			frames = append(frames, clientFrame{op, text[:n], true})
			op, text = 0, text[n:]
			if rapid.Bool().Draw(t, "ping") {
				frames = append(frames, clientFrame{0x89, rapid.StringN(0, 20, 125).Draw(t, "payload"), true})
			}
		}
		return append(frames, clientFrame{0x80 | op, text, true})
	})
	any := rapid.Custom(func(t *rapid.T) []clientFrame {
		return []clientFrame{rapid.SampledFrom([]clientFrame{
			{0x88, "\x03\xe8", true}, {0x88, "\x03\xe8bye", true}, {0x8a, "x", true}, {0x82, "x", true}, {0x80, "x", true},
			{0x01, "x", true}, {0x09, "", true}, {0x83, "", true}, {0x8b, "", true}, {0xc1, "{}", true}, {0x91, "{}", true},
			{0x81, "{}", false}, {0x89, strings.Repeat("x", 125), true}, {0x89, strings.Repeat("x", 126), true},
		}).Draw(t, "frame")}
	})
	ended, open := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var frames []clientFrame
		for _, some := range rapid.SliceOfN(rapid.OneOf(good, good, good, any), 0, 6).Draw(t, "frames") {
			frames = append(frames, some...)
		}
		var data strings.Builder
		for _, f := range frames {
			data.WriteString(f.bytes())
		}
		size := rapid.SampledFrom([]int{1, 2, 7, 100, 5000, inputSize}).Draw(t, "pieces")
		got, err := feed(h, []byte(data.String()), func() int { return size })
		if err != nil {
			t.Fatal(err)
		}
		answers, code := model(frames)
		want := ""
		for _, a := range answers {
			if pong, ok := strings.CutPrefix(a, "pong "); ok {
				want += "\x8a" + string(rune(len(pong))) + pong
				continue
			}
			want += string(finishText(append(beginFrame(nil), a...)))
		}
		switch {
		case code < 0:
			open++
		case code != int(got.why.Code()):
			t.Fatalf("ends by %s, want %d", got.why, code)
		default:
			ended++
			want += string(appendCloseFrame(nil, uint16(code), got.why.Text()))
		}
		if got.out != want || (code < 0) != (got.state == stateOpen) {
			t.Fatalf("state %d sends\n%q, want\n%q", got.state, got.out, want)
		}
	})
	if ended == 0 || open == 0 {
		t.Errorf("%d sessions ended and %d went on: the generator proves nothing", ended, open)
	}
}

// TestBadTextEndsAtOnce: whoever sends what cannot become text is told with the
// byte that shows it, in the midst of a frame and of a message.
func TestBadTextEndsAtOnce(t *testing.T) {
	h := readerHub(t)
	text := "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5" // of RFC 6455's test vectors everywhere
	frame := masked(0x81, text+"\xed\xa0\x80edited")
	for cut := range len(frame) {
		f, err := feed(h, []byte(frame[:cut]), func() int { return 1 })
		// Header and mask are 6 bytes; 0xed 0xa0 is the beginning of a surrogate.
		if shown := cut >= 6+len(text)+2; err != nil || (f.why == api.ReasonUTF8) != shown {
			t.Fatalf("after %d bytes: %s, %v", cut, f.why, err)
		}
	}
	for in, want := range map[string]int{"": 0, "a": 1, "\xe2": 0, "a\xe2\x82": 1, "\xe2\x82\xac": 3, "\xff": -1, "a\xc0": -1, "\xf4\x90": -1, "\xe2a": -1} {
		if got := validText([]byte(in), 0); got != want {
			t.Errorf("validText(%q) is %d, want %d", in, got, want)
		}
	}
}

// TestHugeClaim: a header that claims 200 GB ends the session with its last
// byte, and costs no memory.
func TestHugeClaim(t *testing.T) {
	h := readerHub(t)
	claim := []byte("\x81\xff\x00\x00\x00\x2e\x90\xed\xd0\x00\x01\x02\x03\x04")
	if f, err := feed(h, claim[:13], whole); err != nil || f.state != stateOpen || len(f.in) != 13 {
		t.Errorf("before the last byte: %#v, %v", f, err)
	}
	least := uint64(forever) // what others allocate meanwhile counts as well
	for range 10 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := feed(h, claim, whole)
		runtime.ReadMemStats(&after)
		if err != nil || f.state != stateClosing || f.why != api.ReasonTooLarge {
			t.Errorf("%#v, %v", f, err)
		}
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > 32<<10 {
		t.Errorf("%d bytes were allocated", least)
	}
}

// TestKeptBytesAreFew: one byte of a frame must not hold the buffer that much
// traffic before it needed; a million such sessions would hold 64 GiB.
func TestKeptBytesAreFew(t *testing.T) {
	h := readerHub(t)
	l, id := enrollUser(h, "alice", time.Now().Add(time.Hour).Unix())
	defer l.discard(id)
	s := l.slots.at(id)
	ping := masked(0x89, strings.Repeat("x", 125))
	many := strings.Repeat(ping, 400)
	l.take(id, s, []byte(ping[:1]))
	l.take(id, s, []byte(many[1:]+ping[:1]))
	if s.state != stateOpen {
		t.Fatalf("state %d", s.state)
	}
	in := l.active[s.active].in
	if len(in) != 1 || cap(in) > 2*(h.cfg.MessageBytes+14) {
		t.Errorf("%d bytes are kept in a buffer of %d", len(in), cap(in))
	}
}
