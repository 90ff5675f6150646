package session

import (
	"sync"

	"pushgate/api"
)

// encoding is the form in which a session is sent events.
type encoding uint8

const (
	encodingText    encoding = iota // a WebSocket text frame
	encodingJSON                    // nothing around it: polls make their answer of it
	encodingDeflate                 // a text frame, compressed (RFC 7692)
	encodingSSE                     // a chunk with a message of an event stream
	encodings
)

// plainEncodings are part of the text frame: they cost nothing beside it.
const plainEncodings = 2

// encodingOf is how a session is sent events.
func (s *slot) encoding() encoding {
	switch {
	case s.transport() == transportSSE:
		return encodingSSE
	case s.transport() == transportPoll:
		return encodingJSON
	case s.flags&flagDeflate != 0:
		return encodingDeflate
	}
	return encodingText
}

// variant is an event in another encoding than text, made once, whoever asks
// first.
type variant struct {
	once  sync.Once
	frame []byte
}

// text returns the event's WebSocket frame, made once, whoever asks first.
func (d *delivery) text() []byte {
	d.encode.Do(func() {
		size := len(d.event.Subject) + len(d.event.Cursor) + d.event.Size() + 128
		d.frame = finishText(api.AppendEvent(beginFrame(make([]byte, 0, size)), &d.event))
		d.event.Data = nil // the frame says it all: the ring need not hold both
	})
	return d.frame
}

// payload is the event as JSON.
func (d *delivery) payload() []byte {
	frame := d.text()
	return frame[frameHead(frame):]
}

// encoded returns the event in an encoding.
func (d *delivery) encoded(e encoding) []byte {
	switch e {
	case encodingText:
		return d.text()
	case encodingJSON:
		return d.payload()
	}
	v := &d.variants[e-plainEncodings]
	v.once.Do(func() {
		if e == encodingSSE {
			v.frame = sseEvent(d)
		} else {
			v.frame = deflated(d.text(), d.wide.Load())
		}
		if d.ring != nil {
			d.ring.grew(d, int64(len(v.frame)))
		}
	})
	return v.frame
}

// replayed returns the frame of an event that is repeated for one subject. It
// is made for the one who asks.
func (d *delivery) replayed() []byte {
	payload := d.payload()
	b := append(beginFrame(make([]byte, 0, frameRoom+len(payload)+16)), payload[:len(payload)-1]...)
	return finishText(append(b, `,"replay":true}`...))
}
