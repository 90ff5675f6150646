package conformance

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestJudge holds the judgement against a server that lets everything pass: it
// must be found good where all is well, and bad everywhere else.
func TestJudge(t *testing.T) {
	patient, hasty := startLenient(t, 0), startLenient(t, 20*time.Millisecond)
	cases := slices.Concat(framingCases(), pingCases(), reservedBitCases(), opcodeCases(), fragmentCases(), textCases()[:13], closeCases())
	good, bad := 0, 0
	for i := range cases {
		tc := &cases[i]
		if tc.end.byMe && tc.end.clean || tc.informational {
			if v := tc.play(patient); !v.passed() {
				t.Errorf("%s is well, and yet %s, close %s: %s", v.id, v.behaviour, v.close, v.detail)
			}
			good++
			continue
		}
		if v := tc.play(hasty); v.passed() || v.detail == "" {
			t.Errorf("%s is not noticed: %s, close %s", v.id, v.behaviour, v.close)
		}
		bad++
	}
	if good < 60 || bad < 40 {
		t.Errorf("%d good cases and %d bad ones prove little", good, bad)
	}
}

// startLenient starts a server that echoes whatever it can make out, and, when
// it is given a time, ends connections on which nothing comes for as long.
func startLenient(t *testing.T, idle time.Duration) *gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serveLenient(nc, idle)
		}
	}()
	return &gateway{addr: l.Addr().String()}
}

// serveLenient serves one connection and closes it.
func serveLenient(nc net.Conn, idle time.Duration) {
	defer func() { _ = nc.Close() }()
	in := bufio.NewReader(nc)
	if _, err := http.ReadRequest(in); err != nil {
		return
	}
	_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	var message []byte
	var op byte
	for {
		if idle > 0 {
			_ = nc.SetReadDeadline(time.Now().Add(idle))
		}
		first, payload, err := readMasked(in)
		if err != nil {
			return
		}
		switch first & 15 {
		case opClose:
			_, _ = nc.Write(bare(0x80|opClose, payload))
			return
		case opPing:
			_, _ = nc.Write(bare(0x80|opPong, payload))
		case opText, opBinary:
			message, op = nil, first&15
			fallthrough
		case opContinuation:
			if message = append(message, payload...); first&0x80 != 0 {
				_, _ = nc.Write(bare(0x80|op, message))
			}
		}
	}
}

// readMasked reads a client's frame, whatever it is.
func readMasked(in *bufio.Reader) (first byte, payload []byte, err error) {
	var head [14]byte
	if _, err = io.ReadFull(in, head[:2]); err != nil {
		return 0, nil, err
	}
	n, more := int(head[1]&0x7f), 0
	switch n {
	case 126:
		more = 2
	case 127:
		more = 8
	}
	if _, err = io.ReadFull(in, head[2:6+more]); err != nil {
		return 0, nil, err
	}
	switch more {
	case 2:
		n = int(binary.BigEndian.Uint16(head[2:]))
	case 8:
		n = int(binary.BigEndian.Uint64(head[2:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(in, payload)
	for i := range payload {
		payload[i] ^= head[2+more+i&3]
	}
	return head[0], payload, err
}

// bare is a frame as servers send them.
func bare(first byte, payload []byte) []byte {
	n := len(payload)
	b := []byte{first, byte(n)}
	switch {
	case n >= 1<<16:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	case n >= 126:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return append(b, payload...)
}
