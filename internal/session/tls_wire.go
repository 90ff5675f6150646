package session

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"time"

	"pushgate/internal/poll"
)

// wire is the connection below a tls.Conn, in one of two modes.
//
// Waiting, in the TLS handshake and on the page, it is an ordinary connection
// that a goroutine may block on. Raw, on a loop, it is a descriptor: a read
// takes what the poller has reported and otherwise ends with errNotYet, after
// which tls.Conn.Read can be called again; a write never fails half-way, what
// the socket does not take is kept in pending.
//
// It does not own its descriptor: head, handshake and session do, as without
// TLS. Waiting, it is closed by the goroutine that it was given to.
type wire struct {
	tls *tls.Conn // above it

	conn  net.Conn // waiting; nil: raw
	early []byte   // read before TLS began
	fd    poll.FD
	fresh bool // raw: one read of the socket is due

	pending []byte // raw: ciphertext that the socket has not taken

	// Of the handshake only.
	cpu   chan struct{}
	holds bool // a slot of cpu
	heard bool // the client has sent something
	until time.Time
}

const (
	// maxRecord is how much plaintext goes into a record (RFC 8446 §5.1).
	maxRecord = 16 << 10
	// maxPending is more ciphertext than one record and what TLS itself has
	// to say: a client that makes it wait reads nothing and provokes answers.
	maxPending = 64 << 10
)

// notYet is a temporary error: tls.Conn remembers any other for good.
type notYet struct{}

var errNotYet net.Error = notYet{}

func (notYet) Error() string   { return "session: nothing to read yet" }
func (notYet) Timeout() bool   { return true }
func (notYet) Temporary() bool { return true }

// shake makes the handshake on the descriptor, at most until w.until, and
// leaves the wire raw on another one. After an error it is waiting: the caller
// adopts or closes it.
func (w *wire) shake(life context.Context, config *tls.Config) error {
	w.tls = tls.Server(w, config)
	conn, err := poll.Detach(w.fd)
	w.fd = -1
	if err != nil {
		return err
	}
	w.conn = conn
	if err := conn.SetDeadline(w.until); err != nil {
		return err
	}
	w.hold()
	err = w.tls.HandshakeContext(life)
	w.release()
	w.cpu = nil
	if err != nil {
		return err
	}
	return w.adopt()
}

// adopt makes a waiting wire raw. It is closed on an error.
func (w *wire) adopt() error {
	err := w.conn.SetDeadline(time.Time{})
	if err != nil {
		_ = w.conn.Close()
		return err
	}
	w.fd, err = poll.Adopt(w.conn)
	if err == nil {
		w.conn = nil
	}
	return err
}

func (w *wire) hold() {
	w.cpu <- struct{}{}
	w.holds = true
}

func (w *wire) release() {
	if w.holds {
		w.holds = false
		<-w.cpu
	}
}

// Read implements net.Conn.
func (w *wire) Read(b []byte) (int, error) {
	switch {
	case len(w.early) > 0:
		n := copy(b, w.early)
		if w.early = w.early[n:]; len(w.early) == 0 {
			w.early = nil
		}
		w.heard = true
		return n, nil
	case w.conn == nil:
		return w.readRaw(b)
	case w.cpu != nil:
		return w.readShaking(b)
	}
	return w.conn.Read(b)
}

// readShaking leaves the processor to others while it waits.
func (w *wire) readShaking(b []byte) (int, error) {
	w.release()
	n, err := w.conn.Read(b)
	if n > 0 {
		w.heard = true
	}
	if err != nil {
		return n, err
	}
	w.hold()
	if time.Now().After(w.until) {
		return 0, os.ErrDeadlineExceeded // spent on waiting for a slot
	}
	return n, nil
}

// readRaw reads the socket once a report: a client that sends without end must
// not keep its loop.
func (w *wire) readRaw(b []byte) (int, error) {
	if !w.fresh {
		return 0, errNotYet
	}
	w.fresh = false
	n, err := poll.Read(w.fd, b)
	if err == poll.ErrAgain {
		return 0, errNotYet
	}
	return n, err
}

// Write implements net.Conn.
func (w *wire) Write(b []byte) (int, error) {
	if w.conn != nil {
		return w.conn.Write(b)
	}
	n := 0
	if len(w.pending) == 0 {
		var err error
		if n, err = poll.Write(w.fd, b); err != nil && err != poll.ErrAgain {
			return n, err
		}
	}
	if n < len(b) {
		w.pending = append(w.pending, b[n:]...)
	}
	return len(b), nil
}

// push writes what is pending, as far as the socket takes it.
func (w *wire) push() error {
	for len(w.pending) > 0 {
		n, err := poll.Write(w.fd, w.pending)
		if err == poll.ErrAgain {
			return nil
		}
		if err != nil {
			return err
		}
		w.pending = w.pending[n:]
	}
	w.pending = nil
	return nil
}

// send encrypts and writes plaintext until the socket is full. n counts what
// was encrypted: ciphertext may be pending behind it, one record at most, and
// before that is through nothing more is taken.
func (w *wire) send(b []byte) (n int, err error) {
	for n < len(b) {
		if len(w.pending) > 0 {
			return n, poll.ErrAgain
		}
		k, err := w.tls.Write(b[n:min(n+maxRecord, len(b))])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// receive reads plaintext like [poll.Read]: what one report of the poller and
// what lies in buffers already brings. Nothing stays inside unless b is full.
func (w *wire) receive(b []byte) (n int, err error) {
	w.fresh = true
	for n < len(b) {
		k, err := w.tls.Read(b[n:])
		n += k
		switch {
		case err == nil:
		case n > 0:
			return n, nil
		case err == errNotYet:
			return 0, poll.ErrAgain
		default:
			return 0, err
		}
	}
	return n, nil
}

// over makes the wire wait on conn, which was its descriptor, and returns the
// connection above it. Without TLS that is conn itself.
func (w *wire) over(conn net.Conn) net.Conn {
	if w == nil {
		return conn
	}
	w.conn = conn
	if len(w.pending) > 0 {
		_, _ = conn.Write(w.pending) // an error comes again at the next write
		w.pending = nil
	}
	return w.tls
}

// Close implements net.Conn. A raw descriptor is its owner's to close.
func (w *wire) Close() error {
	if w.conn == nil {
		return nil
	}
	return w.conn.Close()
}

// LocalAddr implements net.Conn.
func (w *wire) LocalAddr() net.Addr {
	if w.conn == nil {
		return &net.TCPAddr{}
	}
	return w.conn.LocalAddr()
}

// RemoteAddr implements net.Conn.
func (w *wire) RemoteAddr() net.Addr {
	if w.conn == nil {
		return &net.TCPAddr{}
	}
	return w.conn.RemoteAddr()
}

// SetDeadline implements net.Conn. Raw, nothing waits.
func (w *wire) SetDeadline(t time.Time) error {
	if w.conn == nil {
		return nil
	}
	return w.conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (w *wire) SetReadDeadline(t time.Time) error {
	if w.conn == nil {
		return nil
	}
	return w.conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.conn == nil {
		return nil
	}
	return w.conn.SetWriteDeadline(t)
}
