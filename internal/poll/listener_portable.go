//go:build !linux || portable

package poll

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Listener is a listening TCP socket that any poller may accept from.
type Listener struct {
	ln net.Listener

	mu      sync.Mutex
	waiting []net.Conn
	closed  bool
	pollers []*Poller
	tag     uint64
	room    *sync.Cond
}

// backlog is how many connections wait here for a loop to accept them.
const backlog = 256

// acceptPause is how long accepting rests after an error, which is mostly that
// descriptors have run out: trying at once would only burn a processor.
const acceptPause = 50 * time.Millisecond

// Listen opens a TCP listener; its caller closes it.
func Listen(addr string) (*Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &Listener{ln: ln}
	l.room = sync.NewCond(&l.mu)
	go l.accept()
	return l, nil
}

func (l *Listener) accept() {
	for {
		nc, err := l.ln.Accept()
		if err != nil && !errors.Is(err, net.ErrClosed) {
			time.Sleep(acceptPause)
			continue
		}
		l.mu.Lock()
		for len(l.waiting) >= backlog && !l.closed {
			l.room.Wait()
		}
		if l.closed || err != nil {
			l.mu.Unlock()
			if err == nil {
				_ = nc.Close()
			}
			return
		}
		l.waiting = append(l.waiting, nc)
		for _, p := range l.pollers {
			p.notify(l)
		}
		l.mu.Unlock()
	}
}

// ready implements source.
func (l *Listener) ready() Ready {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Ready{Tag: l.tag, Read: len(l.waiting) > 0}
}

// Addr is the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Close stops listening; connections that nobody accepted are closed. No
// poller may have it any more.
func (l *Listener) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	_ = l.ln.Close()
	for _, nc := range l.waiting {
		_ = nc.Close()
	}
	l.waiting = nil
	l.room.Broadcast()
}

// Accept takes one waiting connection and its peer's address; the caller owns
// the FD. It returns [ErrAgain] when nobody waits.
func (l *Listener) Accept() (FD, netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return -1, netip.Addr{}, ErrAgain
	}
	nc := l.waiting[0]
	l.waiting = append(l.waiting[:0], l.waiting[1:]...)
	l.room.Signal()
	var addr netip.Addr
	if tcp, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		addr = tcp.AddrPort().Addr().Unmap()
	}
	return adopt(nc), addr, nil
}

// Shed takes one waiting connection, sends answer and ends it. It returns
// [ErrAgain] when nobody waits.
func (l *Listener) Shed(answer []byte) error {
	fd, _, err := l.Accept()
	if err != nil {
		return err
	}
	_, _ = Write(fd, answer)
	Close(fd)
	return nil
}
