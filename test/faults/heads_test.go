//go:build linux

package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHalfOpenHeads has thousands drip their request heads, a byte at a time,
// beside honest clients: those get in, and the others are ended. Who was ended
// comes again until the honest ones are in, so that it is an attack for as long
// as that takes.
func TestHalfOpenHeads(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	const attackers = 3000
	// Nor is anybody refused for the number of heads, while those who come again
	// still count twice.
	g := startGateway(t, n.URL(), fmt.Sprint("GATEWAY_LIMITS_HALF_OPEN=", 4*attackers))
	var over atomic.Bool
	var attacking sync.WaitGroup
	var attacks, answered, wrong atomic.Int64
	t.Cleanup(func() { // also when the test ends early
		over.Store(true)
		attacking.Wait()
	})
	for range attackers {
		c, err := net.Dial("tcp", g.Addr)
		if err != nil {
			t.Fatal(err)
		}
		attacking.Go(func() {
			for {
				attacks.Add(1)
				switch line := attack(c); {
				case strings.HasPrefix(line, "HTTP/1.1 408 "):
					answered.Add(1)
				case line != "":
					wrong.Add(1)
				}
				if over.Load() {
					return
				}
				var err error
				if c, err = net.Dial("tcp", g.Addr); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	eventually(t, "half of the heads and more are half open", func(context.Context) bool {
		return g.metric(t, "pushgate_half_open") >= attackers/2
	})
	for i := range 100 {
		connect(t, g.Addr, fmt.Sprint("honest", i))
	}
	over.Store(true)
	attacking.Wait()
	if answered.Load() < attacks.Load()*9/10 || wrong.Load() > 0 {
		t.Errorf("of %d who drip, %d were answered 408, %d otherwise", attacks.Load(), answered.Load(), wrong.Load())
	}
	eventually(t, "no head is half open", func(context.Context) bool { return g.metric(t, "pushgate_half_open") == 0 })
	g.keptAll(t)
}

// attack drips a head that has no end until the connection is ended, and returns
// the first line that came, "" for none.
func attack(c net.Conn) (line string) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for began := time.Now(); time.Since(began) < patience; {
		_, _ = c.Write([]byte("G"))
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		part, err := in.ReadString('\n')
		line += part
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return line
		}
	}
	return line
}

// rawDial opens a session without anybody who reads from it, and returns the
// answer's head where it is refused. A gateway that this machine kept waiting
// for a request is asked again.
func rawDial(addr, token string) (net.Conn, error) {
	for {
		conn, err := rawDialOnce(addr, token)
		var no *refusedError
		if !errors.As(err, &no) || !strings.HasPrefix(no.head, "HTTP/1.1 408 ") {
			return conn, err
		}
	}
}

func rawDialOnce(addr, token string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return conn, err
	}
	if _, err := fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n", addr, token); err != nil {
		return conn, errors.Join(err, conn.Close())
	}
	// Byte by byte is slow, and a buffer would take what comes behind.
	head := make([]byte, 0, 512)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		var b [1]byte
		if _, err := conn.Read(b[:]); err != nil {
			return conn, errors.Join(err, conn.Close())
		}
		head = append(head, b[0])
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		return conn, errors.Join(&refusedError{string(head)}, conn.Close())
	}
	return conn, nil
}

// refusedError is an answer that is no 101.
type refusedError struct{ head string }

func (e *refusedError) Error() string { return "refused: " + e.head }

// polite reports whether the answer says to come back later.
func (e *refusedError) polite() bool {
	return strings.HasPrefix(e.head, "HTTP/1.1 503 ") && strings.Contains(e.head, "\r\nRetry-After: ")
}
