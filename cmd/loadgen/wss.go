//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is sessions over TLS, a goroutine each: crypto/tls has no other way,
// and it is the server that is measured.
type crowd struct {
	target  *target
	readers sync.WaitGroup
	gone    atomic.Int64 // sessions that the server ended
	closing atomic.Bool

	mu    sync.Mutex
	conns []*tls.Conn
	err   error // the first of those that kept a session from opening
}

// greetWithin is how long a session may take to open.
const greetWithin = 30 * time.Second

// dialTLS opens n sessions, of the users from number first on, and returns
// when all stand. Its caller closes the crowd.
func (t *target) dialTLS(ctx context.Context, first, n int) (*crowd, error) {
	c := &crowd{target: t}
	now := time.Now()
	var dialers sync.WaitGroup
	free := make(chan struct{}, parallel)
	for i := range n {
		free <- struct{}{}
		if c.failure() != nil {
			break
		}
		dialers.Go(func() {
			defer func() { <-free }()
			if err := c.open(ctx, t.head(first+i, now)); err != nil {
				c.fail(fmt.Errorf("session %d: %w", first+i, err))
			}
		})
	}
	dialers.Wait()
	if err := c.failure(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *crowd) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *crowd) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// open opens one session and leaves a goroutine that reads it.
func (c *crowd) open(ctx context.Context, head []byte) error {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: greetWithin}, Config: c.target.tls}
	plain, err := dialer.DialContext(ctx, "tcp", c.target.Addr)
	if err != nil {
		return err
	}
	conn := plain.(*tls.Conn)
	c.mu.Lock()
	c.conns = append(c.conns, conn)
	c.mu.Unlock()
	if err := conn.SetDeadline(time.Now().Add(greetWithin)); err != nil {
		return err
	}
	if _, err := conn.Write(head); err != nil {
		return err
	}
	rest, err := greeted(conn)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.readers.Go(func() { c.read(conn, rest) })
	return nil
}

// greeted reads until the session stands, and returns what came behind the
// welcome.
func greeted(conn net.Conn) ([]byte, error) {
	var got []byte
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		got = append(got, buf[:n]...)
		end := bytes.Index(got, []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		if !bytes.HasPrefix(got, []byte("HTTP/1.1 101 ")) {
			return nil, fmt.Errorf("refused: %s", bytes.TrimSpace(got))
		}
		_, body, rest, ok, err := nextFrame(got[end+4:])
		switch {
		case err != nil:
			return nil, err
		case ok && !bytes.HasPrefix(body, []byte(`{"type":"welcome"`)):
			return nil, fmt.Errorf("it begins with %.80s", body)
		case ok:
			return rest, nil
		}
	}
}

// read answers pings until the session ends.
func (c *crowd) read(conn *tls.Conn, pending []byte) {
	buf := make([]byte, 512)
	for {
		op, body, rest, ok, err := nextFrame(pending)
		if ok && op == opPing {
			_, err = conn.Write(clientFrame(opPong, body))
		}
		if !ok && err == nil {
			var n int
			n, err = conn.Read(buf)
			rest = append(pending, buf[:n]...)
		}
		if err != nil || ok && op == opClose {
			if !c.closing.Load() {
				c.gone.Add(1)
			}
			return
		}
		pending = rest
	}
}

// close ends all sessions at once, as a fleet does.
func (c *crowd) close() {
	c.closing.Store(true)
	for _, conn := range c.conns {
		under := conn.NetConn()
		_ = under.(*net.TCPConn).SetLinger(0)
		_ = under.Close()
	}
	c.readers.Wait()
}
