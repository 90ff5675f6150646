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
	n, err := poll.Read(s.fd, l.input)
	if err == poll.ErrAgain {
		return
	}
	if err != nil {
		l.lost(id, s)
		return
	}
	if s.state != stateOpen {
		return // after our close frame nothing is heard any more
	}
	l.take(id, s, l.input[:n])
}

// take hands bytes of the client to the frame reader; what is no whole frame
// yet is kept.
func (l *loop) take(id uint32, s *slot, data []byte) {
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
		t = l.trafficOf(s)
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

// frames takes the whole frames at the front of data and returns the rest,
// which is always shorter than one frame may be. ok is false when the session
// ended.
func (l *loop) frames(id uint32, s *slot, data []byte) (rest []byte, ok bool) {
	for len(data) > 0 {
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
		if int64(l.reader.Len()) < h.Length {
			return data, true
		}
		payload := data[head : head+int(h.Length)]
		data = data[head+int(h.Length):]
		ws.Cipher(payload, h.Mask, 0)
		if s.messages++; s.messages > floodLimit {
			l.close(id, s, api.ReasonFlood)
			return nil, false
		}
		l.frame(id, s, h, payload)
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
	if ws.CheckHeader(h, st) != nil {
		return api.ReasonProtocol
	}
	if h.OpCode == ws.OpBinary {
		return api.ReasonBinary
	}
	if !h.OpCode.IsControl() && h.Length > int64(l.hub.cfg.MessageBytes-have) {
		return api.ReasonTooLarge
	}
	return api.ReasonNone
}

// frame acts on one frame.
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
		l.fragment(id, s, h.Fin, payload)
	}
}

// fragment takes a text frame, which may be a part of a message.
func (l *loop) fragment(id uint32, s *slot, fin bool, payload []byte) {
	if !fin {
		t := l.trafficOf(s)
		t.partial = true
		t.message = append(t.message, payload...)
		return
	}
	if s.active != 0 && l.active[s.active].partial {
		t := l.active[s.active]
		payload = append(t.message, payload...)
		t.message, t.partial = payload[:0], false
	}
	if !utf8.Valid(payload) {
		l.close(id, s, api.ReasonUTF8)
		return
	}
	l.control(id, s, payload)
}

// control answers one control message.
func (l *loop) control(id uint32, s *slot, payload []byte) {
	c, err := api.ParseControl(payload)
	b := beginFrame(make([]byte, 0, 160))
	switch {
	case err != nil:
		b = api.AppendError(b, c.Ref, api.CodeBadRequest, err.Error())
	case c.Type == "ping":
		b = api.AppendPong(b, c.Ref)
	case c.Type == "subscribe":
		b = api.AppendError(b, c.Ref, api.CodeForbidden, "your token does not grant this subject")
	default:
		b = api.AppendError(b, c.Ref, api.CodeUnavailable, c.Type+" is not available on this gateway")
	}
	l.queue(id, s, finishText(b))
}
