//go:build linux

package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHalfOpenHeads has thousands drip their request heads, a byte at a time,
// beside honest clients: those get in, and the others are ended.
func TestHalfOpenHeads(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	g := startGateway(t, n.URL())
	const attackers = 3000
	conns := make([]net.Conn, attackers)
	for i := range conns {
		var err error
		if conns[i], err = net.Dial("tcp", g.Addr); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conns[i].Close() }()
		drip(conns[i])
	}
	stop := make(chan struct{})
	var dripping, reading sync.WaitGroup
	dripping.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for _, c := range conns {
				drip(c)
			}
		}
	})
	var answered, wrong atomic.Int64
	for _, c := range conns {
		reading.Go(func() {
			line, _ := bufio.NewReader(c).ReadString('\n')
			switch {
			case strings.HasPrefix(line, "HTTP/1.1 408 "):
				answered.Add(1)
			case line != "":
				wrong.Add(1)
			}
		})
	}
	if half := g.metric(t, "pushgate_half_open"); half < attackers/2 {
		t.Errorf("only %v heads are half open: the attack is over before it is looked at", half)
	}
	for i := range 100 {
		connect(t, g.Addr, fmt.Sprint("honest", i))
	}
	reading.Wait()
	close(stop)
	dripping.Wait()
	if answered.Load() < attackers*9/10 || wrong.Load() > 0 {
		t.Errorf("of %d who drip, %d were answered 408, %d otherwise", attackers, answered.Load(), wrong.Load())
	}
	eventually(t, "no head is half open", func(context.Context) bool { return g.metric(t, "pushgate_half_open") == 0 })
	g.keptAll(t)
}

// drip sends the next byte of a head that has no end.
func drip(c net.Conn) { _, _ = c.Write([]byte("G")) }

// rawDial opens a session without anybody who reads from it, and returns the
// answer's status line where it is refused.
func rawDial(addr, token string) (net.Conn, error) {
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
