package session

import (
	"io"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"pushgate/api"
	"pushgate/internal/poll"
)

// floodLimit is how many frames a client may send in one second.
const floodLimit = 1000

// onReadable reads once what a session's client has sent; the poller reports
// what is left again.
func (l *loop) onReadable(id uint32, s *slot) {
	if s.flags&flagTLS != 0 {
		l.readSecure(id, s)
		return
	}
	n, err := poll.Read(s.fd, l.input)
	if err == poll.ErrAgain {
		return
	}
	if err != nil {
		l.broke(id, s, err)
		return
	}
	l.take(id, s, l.input[:n])
}

// take hands bytes of the client to the frame reader; what is no whole frame
// yet is kept.
func (l *loop) take(id uint32, s *slot, data []byte) {
	switch {
	case s.transport() == transportPoll:
		l.takeRequest(id, s, data)
		return
	case s.transport() == transportSSE, s.state != stateOpen:
		return // an event stream's client says nothing; after our close frame nothing is heard any more
	}
	if s.heard != l.tick {
		s.heard, s.messages = l.tick, 0
	}
	var t *traffic
	if s.active != 0 {
		if t = l.active[s.active]; len(t.in) > 0 {
			t.in = append(t.in, data...)
			data = t.in
		}
	}
	rest, ok := l.frames(id, s, data)
	if !ok {
		return
	}
	if len(rest) > 0 {
		t = l.trafficOf(id, s)
		if cap(t.in) > keptBuffer && len(rest) <= keptBuffer/2 {
			t.in = nil // the room for one long read is not kept for a few bytes
		}
		t.in = append(t.in[:0], rest...)
		return
	}
	if s.active != 0 {
		t = l.active[s.active]
		t.in = t.in[:0]
		l.settle(s)
	}
}

// frames takes what data holds, frame by frame, and returns the rest: the
// beginning of a header, or of a control frame. A data frame's payload is taken
// as it comes. ok is false when the session ended.
func (l *loop) frames(id uint32, s *slot, data []byte) (rest []byte, ok bool) {
	for len(data) > 0 {
		if s.active != 0 && l.active[s.active].left > 0 {
			data = l.payload(id, s, data)
			if s.state != stateOpen {
				return nil, false
			}
			continue
		}
		l.reader.Reset(data)
		h, err := ws.ReadHeader(&l.reader)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return data, true
		}
		if err != nil {
			l.close(id, s, api.ReasonProtocol)
			return nil, false
		}
		if why := l.judge(s, h); why != api.ReasonNone {
			l.close(id, s, why)
			return nil, false
		}
		head := len(data) - l.reader.Len()
		whole := int64(l.reader.Len()) >= h.Length
		if h.OpCode.IsControl() && !whole {
			return data, true
		}
		if s.messages++; s.messages > floodLimit && !l.echoes(s) {
			l.close(id, s, api.ReasonFlood)
			return nil, false
		}
		if !h.OpCode.IsControl() && (!whole || !h.Fin || h.OpCode == ws.OpContinuation) {
			l.beginPayload(id, s, h)
			data = data[head:]
		} else {
			payload := data[head : head+int(h.Length)]
			data = data[head+int(h.Length):]
			ws.Cipher(payload, h.Mask, 0)
			l.frame(id, s, h, payload)
		}
		if s.state != stateOpen {
			return nil, false
		}
	}
	return nil, true
}

// judge says what is wrong with a frame by its header alone, before anything
// of it is kept.
func (l *loop) judge(s *slot, h ws.Header) api.Reason {
	fragmented, have := false, 0
	if s.active != 0 {
		t := l.active[s.active]
		fragmented, have = t.partial, len(t.message)
	}
	st := ws.StateServerSide
	if fragmented {
		st |= ws.StateFragmented
	}
	if s.flags&flagDeflate != 0 && isDeflated(h) && (h.OpCode == ws.OpText || h.OpCode == ws.OpBinary) {
		st |= ws.StateExtended // RFC 7692 §6
	}
	if ws.CheckHeader(h, st) != nil {
		return api.ReasonProtocol
	}
	if h.OpCode == ws.OpBinary && !l.echoes(s) {
		return api.ReasonBinary
	}
	if !h.OpCode.IsControl() && h.Length > int64(l.hub.cfg.MessageBytes-have) {
		return api.ReasonTooLarge
	}
	return api.ReasonNone
}

// frame acts on a control frame, or on a message of one frame.
func (l *loop) frame(id uint32, s *slot, h ws.Header, payload []byte) {
	switch h.OpCode {
	case ws.OpPing:
		l.queue(id, s, appendControlFrame(nil, opPong, payload))
	case ws.OpPong:
	case ws.OpClose:
		code, why := readClose(payload)
		if why == api.ReasonClient {
			l.closeWith(id, s, why, code, "")
		} else {
			l.close(id, s, why)
		}
	default:
		l.message(id, s, h.OpCode, payload, isDeflated(h))
	}
}

// beginPayload notes a data frame whose payload is to come, or that is a part
// of a message.
func (l *loop) beginPayload(id uint32, s *slot, h ws.Header) {
	t := l.trafficOf(id, s)
	if h.OpCode != ws.OpContinuation {
		t.op, t.valid, t.deflated = h.OpCode, 0, isDeflated(h)
	}
	t.partial, t.fin = true, h.Fin
	t.left, t.mask, t.masked = h.Length, h.Mask, 0
	if t.left == 0 {
		l.endPayload(id, s, t)
	}
}

// payload takes what data holds of the data frame under way and returns what is
// behind it. Text that cannot become valid any more ends the session at once.
func (l *loop) payload(id uint32, s *slot, data []byte) []byte {
	t := l.active[s.active]
	n := int(min(t.left, int64(len(data))))
	from := len(t.message)
	t.message = append(t.message, data[:n]...)
	ws.Cipher(t.message[from:], t.mask, t.masked)
	t.masked = (t.masked + n) % 4
	t.left -= int64(n)
	if t.op == ws.OpText && !t.deflated {
		if t.valid = validText(t.message, t.valid); t.valid < 0 {
			l.close(id, s, api.ReasonUTF8)
			return nil
		}
	}
	if t.left == 0 {
		l.endPayload(id, s, t)
	}
	return data[n:]
}

// endPayload acts on a message that is complete.
func (l *loop) endPayload(id uint32, s *slot, t *traffic) {
	if !t.fin {
		return
	}
	whole := t.message
	t.message, t.partial = whole[:0], false
	l.message(id, s, t.op, whole, t.deflated)
}

// validText looks at text from a place on, up to which it is known to be good,
// and returns how far it is now: all but the beginning of a character, at most.
// It is -1 when the text is not UTF-8, whatever may follow.
func validText(b []byte, from int) int {
	if utf8.Valid(b[from:]) {
		return len(b)
	}
	for from < len(b) {
		r, n := utf8.DecodeRune(b[from:])
		if r == utf8.RuneError && n == 1 {
			if utf8.FullRune(b[from:]) {
				return -1
			}
			return from
		}
		from += n
	}
	return from
}

// message takes a whole message.
func (l *loop) message(id uint32, s *slot, op ws.OpCode, payload []byte, deflated bool) {
	if deflated {
		message, long, ok := l.inflate.inflate(payload, l.hub.cfg.MessageBytes)
		switch {
		case long:
			l.close(id, s, api.ReasonTooLarge)
			return
		case !ok:
			l.close(id, s, api.ReasonInflate)
			return
		}
		payload = message
	}
	if op == ws.OpText && !utf8.Valid(payload) {
		l.close(id, s, api.ReasonUTF8)
		return
	}
	if l.echoes(s) {
		l.queue(id, s, echo(op, payload, s.flags&flagDeflate != 0))
		return
	}
	l.control(id, s, payload)
}
