//go:build linux && !portable

package poll

import (
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSegments: the send buffer holds two, so that the receiver acknowledges at
// once, also over the loopback with its segments of 64 KiB.
func TestSegments(t *testing.T) {
	c := newPair(t)
	n, err := unix.GetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 || n > maxSegment {
		t.Errorf("a segment has %d bytes", n)
	}
}

// BenchmarkBulk sends much to one client, which reads what it can: a long
// replay through a proxy beside the gateway.
func BenchmarkBulk(b *testing.B) {
	p, err := Open()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	fd, _, err := l.Accept()
	for errors.Is(err, ErrAgain) { // it is on its way
		fd, _, err = l.Accept()
	}
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Add(fd, 1); err != nil {
		b.Fatal(err)
	}
	if err := p.Modify(fd, 1, false, true); err != nil {
		b.Fatal(err)
	}
	const chunk = 256 << 10
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, client)
		read <- err
	}()
	b.SetBytes(chunk)
	data, ready := make([]byte, chunk), make([]Ready, 1)
	for b.Loop() {
		for rest := data; len(rest) > 0; {
			n, err := Write(fd, rest)
			if err != nil && !errors.Is(err, ErrAgain) {
				b.Fatal(err)
			}
			if rest = rest[n:]; len(rest) > 0 {
				if _, err := p.Wait(ready, 1000); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.StopTimer()
	Close(fd)
	if err := <-read; err != nil {
		b.Fatal(err)
	}
}
