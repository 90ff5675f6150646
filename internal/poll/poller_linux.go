//go:build linux && !portable

package poll

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FD is an open socket. Whoever holds it closes it, with [Close] or [Detach].
type FD int32

// Poller is one epoll instance. One goroutine waits; others may call Wake.
type Poller struct {
	epfd   int
	wakefd int
	woken  atomic.Bool
	events [256]unix.EpollEvent
	close  sync.Once
}

// wakeTag marks the poller's own eventfd; callers never see it.
const wakeTag = ^uint64(0)

// Open makes a poller; its caller closes it.
func Open() (*Poller, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &Poller{epfd: epfd, wakefd: wakefd}
	if err := p.control(unix.EPOLL_CTL_ADD, FD(wakefd), unix.EPOLLIN, wakeTag); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close frees the poller. Nobody may be waiting; registered FDs stay open.
func (p *Poller) Close() {
	p.close.Do(func() {
		_ = unix.Close(p.wakefd)
		_ = unix.Close(p.epfd)
	})
}

// Add starts reporting when fd can be read.
func (p *Poller) Add(fd FD, tag uint64) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLRDHUP, tag)
}

// Modify changes fd's tag and says what is reported: reading, writing.
func (p *Poller) Modify(fd FD, tag uint64, read, write bool) error {
	var mask uint32
	if read {
		mask = unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if write {
		mask |= unix.EPOLLOUT
	}
	return p.control(unix.EPOLL_CTL_MOD, fd, mask, tag)
}

// Remove stops all reports for fd, which stays open.
func (p *Poller) Remove(fd FD) error {
	return p.control(unix.EPOLL_CTL_DEL, fd, 0, 0)
}

// AddListener starts reporting when l has connections to accept. Of several
// pollers with the same listener, one or a few are woken for a connection.
func (p *Poller) AddListener(l *Listener, tag uint64) error {
	return p.control(unix.EPOLL_CTL_ADD, l.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, tag)
}

// RemoveListener stops the reports for l.
func (p *Poller) RemoveListener(l *Listener) error { return p.Remove(l.fd) }

func (p *Poller) control(op int, fd FD, mask uint32, tag uint64) error {
	ev := unix.EpollEvent{Events: mask, Fd: int32(uint32(tag)), Pad: int32(uint32(tag >> 32))}
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.epfd), uintptr(op), uintptr(fd),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	if e != 0 {
		return fmt.Errorf("epoll_ctl: %w", e)
	}
	return nil
}

// Wait fills ready and returns how many there are: at once when something is
// ready or Wake was called, else after timeoutMs (0: does not wait, -1: waits
// without end).
func (p *Poller) Wait(ready []Ready, timeoutMs int) (int, error) {
	evs := p.events[:min(len(ready), len(p.events))]
	var n int
	var err error
	if timeoutMs == 0 {
		// It cannot block, so the scheduler need not be told.
		r, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epfd),
			uintptr(unsafe.Pointer(&evs[0])), uintptr(len(evs)), 0, 0, 0)
		if e != 0 {
			err = e
		} else {
			n = int(r)
		}
	} else {
		n, err = unix.EpollWait(p.epfd, evs, timeoutMs)
	}
	if err != nil {
		if err == unix.EINTR {
			return 0, nil
		}
		return 0, fmt.Errorf("epoll_wait: %w", err)
	}
	k := 0
	for i := range evs[:n] {
		ev := &evs[i]
		tag := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
		if tag == wakeTag {
			// First empty it, then say so: a Wake in between writes nothing,
			// and needs not, because this Wait has not returned. The other
			// way round its write would be read here, and no Wake would
			// write ever again.
			var b [8]byte
			_, _ = rawRead(FD(p.wakefd), b[:])
			p.woken.Store(false)
			continue
		}
		const in = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
		ready[k] = Ready{
			Tag:   tag,
			Read:  ev.Events&in != 0,
			Write: ev.Events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0,
		}
		k++
	}
	return k, nil
}

// Wake makes the current or the next Wait return at once. Any goroutine may
// call it; calls before the Wait returns cost one system call together.
func (p *Poller) Wake() {
	if p.woken.Swap(true) {
		return
	}
	one := [8]byte{1}
	_, _ = rawWrite(FD(p.wakefd), one[:])
}
