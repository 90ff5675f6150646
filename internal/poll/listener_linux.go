//go:build linux && !portable

package poll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listener is a listening TCP socket that any poller may accept from.
type Listener struct {
	fd   FD
	addr net.Addr

	// short says that the reserve is being spent, or is gone: whoever accepts
	// meanwhile may have got its descriptor, and gives it back.
	short atomic.Bool

	mu      sync.Mutex
	closed  bool
	reserve int    // an open descriptor to spend when none is left, or -1
	answer  []byte // what was told last to who was turned away
}

// Listen opens a TCP listener; its caller closes it. Connections inherit its
// options, which saves a handful of system calls each: no delay, keepalive, a
// capped send buffer, and an end for peers that stopped acknowledging.
func Listen(addr string) (*Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = setOptions(int(fd)) })
		return errors.Join(err, failed)
	}}
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ln.Close() }()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, err
	}
	own := -1
	var failed error
	// The runtime's own poller must never see the socket again: a duplicate
	// goes on listening when the original is closed.
	if err := raw.Control(func(fd uintptr) { own, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("dup: %w", failed)
	}
	l := &Listener{fd: FD(own), addr: ln.Addr()}
	l.reserve = openReserve()
	return l, nil
}

func setOptions(fd int) error {
	for _, o := range []struct {
		name              string
		level, opt, value int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, SendBuffer},
		{"TCP_MAXSEG", unix.IPPROTO_TCP, unix.TCP_MAXSEG, maxSegment},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		// The heartbeat finds dead peers first; keepalive is for connections
		// that are not sessions yet or no more.
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 300},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 30},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60_000},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	return nil
}

func openReserve() int {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// Addr is the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.addr }

// Close stops listening; connections that nobody accepted are reset. No poller
// may have it any more.
func (l *Listener) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	Close(l.fd)
	if l.reserve >= 0 {
		_ = unix.Close(l.reserve)
		l.reserve = -1
	}
}

// Accept takes one waiting connection and its peer's address; the caller owns
// the FD. It returns [ErrAgain] when nobody waits, [ErrDescriptors] when there is
// no descriptor to accept with (call Shed then, or wait), and [ErrTurnedAway]
// when one was, and was needed elsewhere.
func (l *Listener) Accept() (FD, netip.Addr, error) {
	for {
		fd, addr, e := accept4(l.fd)
		switch e {
		case 0:
			if l.short.Load() && l.keep(fd) {
				return -1, addr, ErrTurnedAway
			}
			return fd, addr, nil
		case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.EPERM:
			// EPERM is a firewall's answer for this one connection.
		case unix.EAGAIN:
			return -1, addr, ErrAgain
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			return -1, addr, ErrDescriptors
		default:
			return -1, addr, e
		}
	}
}

// keep makes the descriptor of an accepted connection the reserve, where that was
// lost to it, and turns its client away. It reports false when there is a
// reserve.
func (l *Listener) keep(fd FD) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.reserve >= 0 {
		return false
	}
	turnAway(fd, l.answer)
	l.reserve = int(fd)
	l.short.Store(false)
	return true
}

// turnAway answers a connection and ends our side of it.
func turnAway(fd FD, answer []byte) {
	_, _ = rawWrite(fd, answer)
	CloseWrite(fd)
	// What the client sent must be read, or the close resets the connection and
	// takes the answer with it.
	var sink [4096]byte
	_, _ = rawRead(fd, sink[:])
}

func accept4(l FD) (FD, netip.Addr, unix.Errno) {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	r, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l), uintptr(unsafe.Pointer(&sa)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return -1, netip.Addr{}, e
	}
	var addr netip.Addr
	switch sa.Family {
	case unix.AF_INET:
		addr = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&sa)).Addr)
	case unix.AF_INET6:
		addr = netip.AddrFrom16(sa.Addr).Unmap()
	}
	return FD(r), addr, 0
}

// Shed takes one waiting connection with the descriptor kept in reserve, sends
// answer and ends it, so that clients are told instead of left hanging when
// descriptors run out. It returns [ErrAgain] when nobody waits: the kernel
// finds a descriptor before it looks for a connection, so that Accept's
// [ErrDescriptors] does not say that there is one. It returns [ErrDescriptors]
// when the reserve is gone as well.
func (l *Listener) Shed(answer []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrAgain
	}
	if l.reserve < 0 {
		if l.reserve = openReserve(); l.reserve < 0 {
			l.short.Store(true)
			return ErrDescriptors
		}
	}
	l.answer = answer
	l.short.Store(true)
	_ = unix.Close(l.reserve)
	l.reserve = -1
	fd, _, e := accept4(l.fd)
	if e == 0 {
		// Its descriptor is the next reserve: nobody can take it in between.
		turnAway(fd, answer)
		l.reserve = int(fd)
	} else {
		l.reserve = openReserve()
	}
	l.short.Store(l.reserve < 0)
	switch e {
	case 0:
		return nil
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		return ErrDescriptors // somebody else was quicker
	default:
		return ErrAgain
	}
}
