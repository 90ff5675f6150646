package conformance

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Opcodes of RFC 6455 §11.8.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// frame is a frame as it is on the wire, right or wrong.
type frame struct {
	op      byte
	fin     bool
	rsv     byte // RSV1 is 4, RSV2 is 2, RSV3 is 1
	payload string
}

func text(s string) frame { return frame{op: opText, fin: true, payload: s} }
func ping(s string) frame { return frame{op: opPing, fin: true, payload: s} }
func pong(s string) frame { return frame{op: opPong, fin: true, payload: s} }

// part is a fragment of a message: the first has the message's opcode.
func part(op byte, fin bool, s string) frame { return frame{op: op, fin: fin, payload: s} }

// closing is a close frame with a code, whatever it is.
func closing(code uint16, reason string) frame {
	return frame{op: opClose, fin: true, payload: string(binary.BigEndian.AppendUint16(nil, code)) + reason}
}

// fragments cuts a message into frames of at most size bytes.
func fragments(op byte, s string, size int) []frame {
	var all []frame
	for {
		n := min(size, len(s))
		all = append(all, part(op, n == len(s), s[:n]))
		if s = s[n:]; s == "" {
			return all
		}
		op = opContinuation
	}
}

// appendHead appends a client's frame header.
func appendHead(b []byte, f frame, key [4]byte) []byte {
	first := f.op | f.rsv<<4
	if f.fin {
		first |= 0x80
	}
	b = append(b, first)
	switch n := len(f.payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(b, key[:]...)
}

func appendFrame(b []byte, f frame, key [4]byte) []byte {
	b = appendHead(b, f, key)
	from := len(b)
	b = append(b, f.payload...)
	for i := range b[from:] {
		b[from+i] ^= key[i&3]
	}
	return b
}

// maxServerFrame bounds what a broken server can make this client take.
const maxServerFrame = 64 << 20

// readFrame reads a server's frame and holds its form against RFC 6455 §5.2.
func readFrame(r *bufio.Reader) (frame, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return frame{}, err
	}
	f := frame{op: head[0] & 15, fin: head[0]&0x80 != 0, rsv: head[0] >> 4 & 7}
	if head[1]&0x80 != 0 {
		return f, errors.New("the server's frame is masked")
	}
	n := uint64(head[1])
	var err error
	switch n {
	case 126:
		_, err = io.ReadFull(r, head[:2])
		if n = uint64(binary.BigEndian.Uint16(head[:2])); err == nil && n < 126 {
			err = fmt.Errorf("a length of %d has two bytes too many", n)
		}
	case 127:
		_, err = io.ReadFull(r, head[:8])
		if n = binary.BigEndian.Uint64(head[:8]); err == nil && (n < 1<<16 || n > maxServerFrame) {
			err = fmt.Errorf("a length of %d in eight bytes", n)
		}
	}
	if err != nil {
		return f, err
	}
	if f.op >= opClose && (n > 125 || !f.fin) {
		return f, fmt.Errorf("a control frame of %d bytes, fin %v", n, f.fin)
	}
	payload := make([]byte, n)
	if _, err = io.ReadFull(r, payload); err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	f.payload = string(payload)
	return f, err
}
