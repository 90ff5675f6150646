//go:build linux && !portable

package poll

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Blocking turns a TCP connection into one whose reads block their thread
// instead of parking their goroutine. Conn is closed; the caller closes the
// result.
//
// It is for the one connection that brings all events. With the runtime's
// poller each read of thin traffic puts a processor to sleep and wakes it
// again, and the runtime's monitor with it: half of what an event costs.
func Blocking(conn *net.TCPConn) (net.Conn, error) {
	local, remote := conn.LocalAddr(), conn.RemoteAddr()
	fd, err := takeOver(conn)
	_ = conn.Close()
	if err != nil {
		return nil, fmt.Errorf("poll: taking over a connection: %w", err)
	}
	return &blocking{fd: fd, local: local, remote: remote}, nil
}

// takeOver returns a blocking descriptor of the connection, which the runtime
// does not know.
func takeOver(conn *net.TCPConn) (int, error) {
	fd, err := duplicate(conn)
	if err != nil {
		return 0, err
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

type blocking struct {
	fd            int
	local, remote net.Addr

	// open is held for reading by every call, and for writing by Close: a
	// descriptor is never closed under a call that uses it.
	open   sync.RWMutex
	closed bool
	ending sync.Once
}

// Read implements net.Conn.
func (c *blocking) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := c.call("read", func() (int, error) { return unix.Read(c.fd, b) })
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}

// Write implements net.Conn.
func (c *blocking) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := c.call("write", func() (int, error) { return unix.Write(c.fd, b[written:]) })
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (c *blocking) call(op string, f func() (int, error)) (int, error) {
	c.open.RLock()
	defer c.open.RUnlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	for {
		n, err := f()
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			// SO_RCVTIMEO or SO_SNDTIMEO has run out.
			return 0, os.ErrDeadlineExceeded
		default:
			return 0, &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
		}
	}
}

// Close implements net.Conn. It ends the calls that are waiting.
func (c *blocking) Close() error {
	err := net.ErrClosed
	c.ending.Do(func() {
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
		c.open.Lock()
		defer c.open.Unlock()
		c.closed = true
		err = unix.Close(c.fd)
	})
	return err
}

// LocalAddr implements net.Conn.
func (c *blocking) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *blocking) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn. A call that waits already is not shortened.
func (c *blocking) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *blocking) SetReadDeadline(t time.Time) error { return c.timeout(unix.SO_RCVTIMEO, t) }

// SetWriteDeadline implements net.Conn.
func (c *blocking) SetWriteDeadline(t time.Time) error { return c.timeout(unix.SO_SNDTIMEO, t) }

func (c *blocking) timeout(option int, t time.Time) error {
	c.open.RLock()
	defer c.open.RUnlock()
	if c.closed {
		return net.ErrClosed
	}
	var tv unix.Timeval // zero waits for ever
	if !t.IsZero() {
		tv = unix.NsecToTimeval(max(time.Until(t), time.Millisecond).Nanoseconds())
	}
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, option, &tv); err != nil {
		return fmt.Errorf("poll: deadline: %w", err)
	}
	return nil
}
