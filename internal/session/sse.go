package session

import (
	"bytes"
	"strconv"

	"pushgate/api"
)

// Server-sent events: a session whose frames are messages of an event stream,
// each in a chunk of its own. Its client says nothing.

const hexDigits = "0123456789abcdef"

// finishChunk makes a chunk (RFC 9112 §7.1) of what was written behind
// beginFrame, as finishText makes a frame. It starts inside b.
func finishChunk(b []byte) []byte {
	n := len(b) - frameRoom
	b = append(b, '\r', '\n')
	at := frameRoom
	for _, c := range []byte{'\n', '\r'} {
		at--
		b[at] = c
	}
	for {
		at--
		b[at] = hexDigits[n&15]
		if n >>= 4; n == 0 {
			return b[at:]
		}
	}
}

// chunkEnd returns where the chunk ends that starts at b[at], which this gateway
// made itself.
func chunkEnd(b []byte, at int) int {
	head := bytes.IndexByte(b[at:], '\n')
	n, err := strconv.ParseUint(string(b[at:at+head-1]), 16, 32)
	if err != nil {
		return len(b) // the answer's head, which goes out first and whole
	}
	return at + head + 1 + int(n) + 2
}

// lastChunk ends the stream.
const lastChunk = "0\r\n\r\n"

func sseEvent(d *delivery) []byte {
	payload := d.payload()
	room := frameRoom + len(payload) + len(d.event.Cursor) + 20
	return finishChunk(api.AppendSSEEvent(beginFrame(make([]byte, 0, room)), d.event.Cursor, payload))
}

// sseControl is a frame that is no event; frame was begun by beginFrame.
func sseControl(frame []byte) []byte {
	return finishChunk(api.AppendSSEControl(beginFrame(make([]byte, 0, 2*len(frame))), frame[frameRoom:]))
}

func sseClose(why api.Reason) []byte {
	b := finishChunk(api.AppendSSEClose(beginFrame(nil), why.Code(), why.Text()))
	return append(b, lastChunk...)
}

// beatSSE moves the place of a quiet client on, and finds out who is gone:
// nothing is heard of those who still listen.
func (l *loop) beatSSE(id uint32, s *slot) {
	l.queue(id, s, finishChunk(api.AppendSSEHeartbeat(beginFrame(nil), l.cursor(id, s))))
}
