package session

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"pushgate/api"
)

const (
	opClose = ws.OpClose
	opPing  = ws.OpPing
	opPong  = ws.OpPong
)

// frameRoom is the room for the longest header of a frame without mask that
// this gateway sends.
const frameRoom = 10

// beginFrame leaves room for a header before a payload whose length is not
// known yet. dst must be empty.
func beginFrame(dst []byte) []byte {
	return append(dst, make([]byte, frameRoom)...)
}

// finishText writes a text frame's header (RFC 6455 §5.2) right before the
// payload and returns the frame, which starts inside b.
func finishText(b []byte) []byte {
	n := len(b) - frameRoom
	switch {
	case n < 126:
		b = b[frameRoom-2:]
		b[1] = byte(n)
	case n < 1<<16:
		b = b[frameRoom-4:]
		b[1] = 126
		binary.BigEndian.PutUint16(b[2:], uint16(n))
	default:
		b = b[frameRoom-10:]
		b[1] = 127
		binary.BigEndian.PutUint64(b[2:], uint64(n))
	}
	b[0] = 0x80 | byte(ws.OpText)
	return b
}

// echo returns the frame that gives a message back, compressed where that was
// negotiated and is a gain.
func echo(op ws.OpCode, payload []byte, deflate bool) []byte {
	b := finishText(append(beginFrame(make([]byte, 0, frameRoom+len(payload))), payload...))
	if deflate {
		b = deflated(b, false)
	}
	b[0] = b[0]&0xf0 | byte(op)
	return b
}

// frameEnd returns where the frame ends that starts at b[at], which this
// gateway made itself.
func frameEnd(b []byte, at int) int {
	switch n := b[at+1]; n {
	case 126:
		return at + 4 + int(binary.BigEndian.Uint16(b[at+2:]))
	case 127:
		return at + 10 + int(binary.BigEndian.Uint64(b[at+2:]))
	default:
		return at + 2 + int(n)
	}
}

// frameHead is the length of the header of the frame at the front of b, which
// this gateway made itself.
func frameHead(b []byte) int {
	switch b[1] {
	case 126:
		return 4
	case 127:
		return 10
	default:
		return 2
	}
}

// appendControlFrame appends a whole control frame; payload is at most 125
// bytes (RFC 6455 §5.5).
func appendControlFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	dst = append(dst, 0x80|byte(op), byte(len(payload)))
	return append(dst, payload...)
}

// appendCloseFrame appends a close frame; code 0 sends none.
func appendCloseFrame(dst []byte, code uint16, text string) []byte {
	if code == 0 {
		return appendControlFrame(dst, opClose, nil)
	}
	dst = append(dst, 0x80|byte(opClose), byte(2+len(text)))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, text...)
}

// readClose judges the payload of a client's close frame: the code to echo,
// 0 for none, and why the session ends.
func readClose(payload []byte) (code uint16, why api.Reason) {
	if len(payload) == 0 {
		return 0, api.ReasonClient
	}
	status, text := ws.ParseCloseFrameData(payload)
	registered := status >= 1012 && status <= 1014 // since the library's list
	if len(payload) == 1 || !registered && ws.CheckCloseFrameData(status, "") != nil {
		return 0, api.ReasonProtocol
	}
	if !utf8.ValidString(text) {
		return 0, api.ReasonUTF8
	}
	return uint16(status), api.ReasonClient
}
