//go:build !linux || portable

package poll

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// FD names an open connection. Whoever holds it closes it, with [Close] or
// [Detach].
type FD int32

var errClosed = errors.New("poll: closed")

// table gives connections their numbers; like the kernel it reuses them.
var table struct {
	sync.Mutex
	conns []*conn
	free  []FD
}

func lookup(fd FD) *conn {
	table.Lock()
	defer table.Unlock()
	if fd < 0 || int(fd) >= len(table.conns) {
		return nil
	}
	return table.conns[fd]
}

// conn is one connection with the goroutine that reads it and the one that
// writes it.
type conn struct {
	nc net.Conn

	mu       sync.Mutex
	changed  *sync.Cond
	in       []byte // read and not yet taken
	readErr  error
	out      []byte // taken and not yet written
	writeErr error
	shut     bool // CloseWrite behind out
	closed   bool // Close behind out
	detached bool
	reading  chan struct{} // closed when the reader has ended
	writing  chan struct{} // closed when the writer has ended

	poller              *Poller
	tag                 uint64
	wantRead, wantWrite bool
}

func adopt(nc net.Conn) FD { return adoptWith(nc, nil) }

// adoptWith adopts a connection that something was already read of.
func adoptWith(nc net.Conn, in []byte) FD {
	c := &conn{nc: nc, in: in, reading: make(chan struct{}), writing: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	table.Lock()
	var fd FD
	if n := len(table.free); n > 0 {
		fd, table.free = table.free[n-1], table.free[:n-1]
		table.conns[fd] = c
	} else {
		fd = FD(len(table.conns))
		table.conns = append(table.conns, c)
	}
	table.Unlock()
	go c.read()
	go c.write()
	return fd
}

// ready implements source.
func (c *conn) ready() Ready {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.poller == nil {
		return Ready{}
	}
	return Ready{
		Tag:   c.tag,
		Read:  c.wantRead && (len(c.in) > 0 || c.readErr != nil),
		Write: c.wantWrite && (len(c.out) < SendBuffer || c.writeErr != nil),
	}
}

// tell wakes whoever waits for c, here and in its poller. c.mu is held.
func (c *conn) tell() {
	c.changed.Broadcast()
	if p := c.poller; p != nil {
		p.notify(c)
	}
}

func (c *conn) read() {
	defer close(c.reading)
	buf := make([]byte, 4096)
	for {
		n, err := c.nc.Read(buf)
		c.mu.Lock()
		for len(c.in) > 0 && !c.closed && !c.detached {
			c.changed.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		c.in = append(c.in, buf[:n]...)
		if err != nil {
			c.readErr = err
		}
		c.tell()
		stop := err != nil || c.detached
		c.mu.Unlock()
		if stop {
			return
		}
	}
}

func (c *conn) write() {
	defer close(c.writing)
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.shut && !c.closed && !c.detached {
			c.changed.Wait()
		}
		chunk := c.out
		if len(chunk) == 0 {
			shut, closed := c.shut, c.closed
			c.shut = false
			c.mu.Unlock()
			switch {
			case closed:
				_ = c.nc.Close()
				return
			case shut:
				if tcp, ok := c.nc.(*net.TCPConn); ok {
					_ = tcp.CloseWrite()
				}
				continue
			default:
				return // detached, nothing left to write
			}
		}
		c.mu.Unlock()
		n, err := c.nc.Write(chunk)
		c.mu.Lock()
		c.out = append(c.out[:0:0], c.out[n:]...)
		if err != nil {
			c.writeErr, c.out = err, nil
		}
		c.tell()
		c.mu.Unlock()
	}
}

// Read reads what is there, at most len(b) bytes, which must not be 0. It
// returns [ErrAgain] when nothing is there and io.EOF at the peer's end.
func Read(fd FD, b []byte) (int, error) {
	c := lookup(fd)
	if c == nil {
		return 0, errClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.in) == 0 {
		switch c.readErr {
		case nil:
			return 0, ErrAgain
		case io.EOF:
			return 0, io.EOF
		default:
			return 0, c.readErr
		}
	}
	n := copy(b, c.in)
	c.in = append(c.in[:0], c.in[n:]...)
	c.changed.Broadcast()
	return n, nil
}

// Write writes as much of b as there is room for. A full socket takes 0 bytes
// and returns [ErrAgain].
func Write(fd FD, b []byte) (int, error) {
	c := lookup(fd)
	if c == nil {
		return 0, errClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	n := min(len(b), SendBuffer-len(c.out))
	if n <= 0 {
		return 0, ErrAgain
	}
	c.out = append(c.out, b[:n]...)
	c.changed.Broadcast()
	return n, nil
}

// CloseWrite ends our side of the connection behind all that was written.
func CloseWrite(fd FD) {
	if c := lookup(fd); c != nil {
		c.mu.Lock()
		c.shut = true
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

// Close ends the connection and frees fd, which may be reused at once.
func Close(fd FD) {
	c := lookup(fd)
	if c == nil {
		return // as the kernel does with a number that is not open
	}
	table.Lock()
	table.conns[fd] = nil
	table.free = append(table.free, fd)
	table.Unlock()
	c.mu.Lock()
	p := c.poller
	c.poller, c.closed = nil, true
	if p != nil {
		p.forget(c)
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	// The writer still sends what was taken, as a kernel does, but not for
	// ever; the reader ends at once.
	_ = c.nc.SetReadDeadline(time.Now())
	_ = c.nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
}

// Detach gives up fd for an ordinary connection, which its caller closes. fd
// is closed, also on an error.
func Detach(fd FD) (net.Conn, error) {
	c := lookup(fd)
	if c == nil {
		return nil, errClosed
	}
	table.Lock()
	table.conns[fd] = nil
	table.free = append(table.free, fd)
	table.Unlock()
	c.mu.Lock()
	c.poller, c.detached = nil, true
	c.changed.Broadcast()
	c.mu.Unlock()
	_ = c.nc.SetReadDeadline(time.Now())
	<-c.reading
	<-c.writing
	_ = c.nc.SetReadDeadline(time.Time{})
	return &detached{Conn: c.nc, rest: c.in}, nil
}

// detached is a connection with bytes that its reader had already taken.
type detached struct {
	net.Conn
	rest []byte
}

func (d *detached) Read(b []byte) (int, error) {
	if len(d.rest) > 0 {
		n := copy(b, d.rest)
		d.rest = d.rest[n:]
		return n, nil
	}
	return d.Conn.Read(b)
}

// MaxFiles is how many connections this process may open. The systems that
// this twin is for do not say it in one way; a laptop's share is enough.
func MaxFiles() int { return 10_000 }
