//go:build linux

package main

import (
	"encoding/binary"
	"errors"
)

// The opcodes of RFC 6455 §5.2 that a client meets or sends.
const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10

	opCompressed = 0x40 // RSV1: the message is deflated (RFC 7692)
)

var errMasked = errors.New("the server masks its frames or uses reserved bits")

// nextFrame cuts one whole frame off the front of b; op has opCompressed where
// the frame says so. ok is false while it is not complete; rest is then b.
func nextFrame(b []byte) (op byte, payload, rest []byte, ok bool, err error) {
	if len(b) < 2 {
		return 0, nil, b, false, nil
	}
	if b[0]&0x30 != 0 || b[1]&0x80 != 0 {
		return 0, nil, b, false, errMasked
	}
	n, head := uint64(b[1]), 2
	switch n {
	case 126:
		if head = 4; len(b) < head {
			return 0, nil, b, false, nil
		}
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if head = 10; len(b) < head {
			return 0, nil, b, false, nil
		}
		n = binary.BigEndian.Uint64(b[2:])
	}
	if uint64(len(b)-head) < n {
		return 0, nil, b, false, nil
	}
	end := head + int(n)
	return b[0] &^ 0x80, b[head:end], b[end:], true, nil
}

// clientFrame makes a client's frame. Its mask is zero, which is a mask: what
// the server must do with it is the same.
func clientFrame(op byte, payload []byte) []byte {
	b := []byte{0x80 | op}
	if len(payload) < 126 {
		b = append(b, 0x80|byte(len(payload)))
	} else {
		b = append(b, 0x80|126)
		b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}
