//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one client: all that it costs here beside its descriptor.
type conn struct {
	fd      int32
	state   connState
	tracker tracker
	pending []byte // the beginning of a frame, nil when there is none

	welcomed bool
	after    uint16 // milliseconds that a drain frame asked to wait
}

type connState uint8

const (
	connNone connState = iota
	connDialing
	connUpgrading // the request is sent
	connGreeting  // the 101 is here; what opens the session is not
	connOpen
	connGone
)

// fleet is the clients of one process, driven by one goroutine with one epoll.
type fleet struct {
	target *target
	first  int // number of the first user
	ep     int
	server unix.Sockaddr
	now    time.Time // when tokens were issued

	stop    atomic.Bool
	stopped chan struct{}
	opened  chan struct{} // closed when all clients are open
	ended   chan struct{} // closed when the server has ended them all since
	gone    atomic.Int64  // clients that the server dropped

	// The goroutine holds mu while it works.
	mu      sync.Mutex
	conns   []conn
	next    int // the next to dial
	dialing int
	open    int
	left    int            // of the open ones, those that the server has not ended
	closes  map[uint16]int // close frames by their code
	last    time.Time      // when the server ended the last of all
	err     error
	run     *run
	input   []byte
	welcome []byte         // of the first session
	endings map[string]int // how replays ended: the rest of the frame behind its type
	bytes   int64          // that came, heads included
	inflate *inflater      // nil without compression

	doze    int // milliseconds that the goroutine waits at most
	permits int // how many more may be dialed; -1: as many as there are
	// moved is told of a session that a drain has ended, and how long it is
	// to wait; nil: nobody asks.
	moved func(after time.Duration)
}

// parallel is how many handshakes are under way at a time.
const parallel = 128

// maxClients leaves a process some files beside its sessions.
const maxClients = 18_000

// dial opens n sessions, of the users from number first on, and returns when
// all stand. Its caller closes the fleet.
func (t *target) dial(ctx context.Context, first, n int) (*fleet, error) {
	f, err := t.prepare(first, n)
	if err != nil {
		return nil, err
	}
	go f.loop()
	if err := f.wait(ctx); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (t *target) prepare(first, n int) (*fleet, error) {
	if n < 1 || n > maxClients {
		return nil, fmt.Errorf("one process can hold 1 to %d sessions, not %d", maxClients, n)
	}
	addr, err := netip.ParseAddrPort(t.Addr)
	if err != nil || !addr.Addr().Is4() {
		return nil, fmt.Errorf("--addr=%s: an IPv4 address and a port are needed", t.Addr)
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	f := &fleet{
		permits: -1, doze: 100,
		target: t, first: first, ep: ep, now: time.Now(),
		server:  &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()},
		stopped: make(chan struct{}), opened: make(chan struct{}), ended: make(chan struct{}),
		closes: map[uint16]int{}, endings: map[string]int{}, conns: make([]conn, n), input: make([]byte, 256<<10),
	}
	if t.deflate {
		f.inflate = newInflater()
	}
	return f, nil
}

// wait returns when all clients are open; it gives up after a minute without
// a new one.
func (f *fleet) wait(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, since := 0, time.Now()
	for {
		select {
		case <-f.opened:
			return nil
		case <-f.stopped:
			return f.failure()
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		f.mu.Lock()
		open := f.open
		f.mu.Unlock()
		progress("%d of %d sessions are open", open, len(f.conns))
		if open != last {
			last, since = open, time.Now()
		}
		if time.Since(since) > time.Minute {
			return fmt.Errorf("only %d of %d sessions opened", open, len(f.conns))
		}
	}
}

func (f *fleet) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		return errors.New("the clients have stopped")
	}
	return f.err
}

// close ends all connections at once, with a reset, so that no port stays
// behind in TIME_WAIT.
func (f *fleet) close() {
	f.stop.Store(true)
	<-f.stopped
	for i := range f.conns {
		if c := &f.conns[i]; c.state != connNone && c.state != connGone {
			f.hangUp(c)
		}
	}
	_ = unix.Close(f.ep)
}

func (f *fleet) hangUp(c *conn) {
	_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(int(c.fd))
	c.state, c.pending = connGone, nil
}

// measure has the clients account what arrives to r, or to nobody.
func (f *fleet) measure(r *run) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.run = r
}

// loop drives the clients until close or until one cannot be opened.
func (f *fleet) loop() {
	defer close(f.stopped)
	ready := make([]unix.EpollEvent, 512)
	for !f.stop.Load() {
		f.mu.Lock()
		f.dialMore()
		failed := f.err != nil
		f.mu.Unlock()
		if failed {
			return
		}
		n, err := unix.EpollWait(f.ep, ready, f.doze)
		if err != nil && err != unix.EINTR {
			f.mu.Lock()
			f.err = fmt.Errorf("epoll_wait: %w", err)
			f.mu.Unlock()
			return
		}
		f.mu.Lock()
		for i := range ready[:max(n, 0)] {
			f.handle(&f.conns[ready[i].Fd], int(ready[i].Fd))
		}
		f.mu.Unlock()
	}
}

func (f *fleet) dialMore() {
	for f.next < len(f.conns) && f.dialing < parallel && f.err == nil && f.permits != 0 {
		i := f.next
		f.next++
		if f.permits > 0 {
			f.permits--
		}
		if err := f.dialOne(i); err != nil {
			f.err = err
		}
	}
}

// dialOne starts a connection. Its source address is one of 127.0.0.2 to .17,
// because one address has not ports enough for many sessions.
func (f *fleet) dialOne(i int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c := &f.conns[i]
	c.fd, c.state = int32(fd), connDialing
	f.dialing++
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if i < f.target.slow {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10)
	}
	server := f.server.(*unix.SockaddrInet4)
	if server.Addr[0] == 127 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		source := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + i%16)}}
		if err := unix.Bind(fd, source); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
	}
	if err := unix.Connect(fd, server); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connecting to %s: %w", f.target.Addr, err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(i)}
	if err := unix.EpollCtl(f.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (f *fleet) handle(c *conn, i int) {
	if c.state == connGone {
		return
	}
	if c.state == connDialing {
		f.sendHead(c, i)
		return
	}
	n, err := unix.Read(int(c.fd), f.input)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		f.lost(c, fmt.Errorf("the server ended session %d: %v", i, err))
		return
	}
	f.bytes += int64(n)
	data := f.input[:n]
	if len(c.pending) > 0 {
		data = append(c.pending, data...)
		c.pending = nil
	}
	rest, err := f.take(c, i, data)
	if err != nil {
		f.lost(c, err)
		return
	}
	if len(rest) > 0 {
		c.pending = bytes.Clone(rest)
	}
}

// lost notes that the server dropped a client: an error while sessions are
// being opened, a count afterwards.
func (f *fleet) lost(c *conn, why error) {
	if c.state != connOpen {
		f.err = why
	}
	var closed *closedError
	if errors.As(why, &closed) {
		f.closes[closed.code]++
		if f.moved != nil && closed.code == 1001 {
			f.moved(time.Duration(c.after) * time.Millisecond)
		}
	}
	f.gone.Add(1)
	if c.state == connOpen {
		if f.left--; f.left == 0 && f.open == len(f.conns) {
			f.last = time.Now()
			close(f.ended)
		}
	}
	f.hangUp(c)
}

// closedError is the server's close frame.
type closedError struct {
	session int
	code    uint16
}

func (e *closedError) Error() string {
	return fmt.Sprintf("the server closed session %d with %d", e.session, e.code)
}

func (f *fleet) sendHead(c *conn, i int) {
	if e, _ := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); e != 0 {
		f.lost(c, fmt.Errorf("connecting to %s: %w", f.target.Addr, unix.Errno(e)))
		return
	}
	head := f.target.head(f.first+i, f.now)
	if n, err := unix.Write(int(c.fd), head); n != len(head) {
		f.lost(c, fmt.Errorf("sending a handshake: %v", err))
		return
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
	if err := unix.EpollCtl(f.ep, unix.EPOLL_CTL_MOD, int(c.fd), &ev); err != nil {
		f.lost(c, fmt.Errorf("epoll_ctl: %w", err))
		return
	}
	c.state = connUpgrading
}

// take acts on what a client got and returns what is not complete.
func (f *fleet) take(c *conn, i int, data []byte) ([]byte, error) {
	if c.state == connUpgrading {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			return data, nil
		}
		want := "HTTP/1.1 101 "
		if f.target.Protocol == "sse" {
			want = "HTTP/1.1 200 "
		}
		if !bytes.HasPrefix(data, []byte(want)) {
			return nil, fmt.Errorf("session %d was refused: %s", i, bytes.TrimSpace(data))
		}
		c.state = connGreeting
		data = data[end+4:]
	}
	if f.target.Protocol == "sse" {
		return f.takeEvents(c, i, data)
	}
	var now int64
	for len(data) > 0 {
		op, body, rest, ok, err := nextFrame(data)
		if err != nil {
			return nil, err
		}
		if !ok {
			return data, nil
		}
		data = rest
		if op&opCompressed != 0 {
			if f.inflate == nil {
				return nil, errMasked
			}
			op &^= opCompressed
			if body, err = f.inflate.message(body); err != nil {
				return nil, err
			}
		}
		switch op {
		case opText, opBinary:
			if c.state == connGreeting {
				if err := f.greet(c, i, body); err != nil {
					return nil, err
				}
				continue
			}
			if f.moved != nil {
				c.after = max(c.after, drainWait(body))
			}
			if f.run != nil {
				if now == 0 {
					now = time.Now().UnixNano()
				}
				f.run.take(&c.tracker, body, now)
			}
			if f.target.Protocol == "natsws" && bytes.HasPrefix(body, []byte("PING")) {
				_, _ = unix.Write(int(c.fd), clientFrame(opBinary, []byte("PONG\r\n")))
			}
		case opPing:
			_, _ = unix.Write(int(c.fd), clientFrame(opPong, body))
		case opClose:
			code := uint16(1005)
			if len(body) >= 2 {
				code = binary.BigEndian.Uint16(body)
			}
			return nil, &closedError{i, code}
		}
	}
	return nil, nil
}

// greet acts on what a server says until the session stands: the welcome
// frame, or NATS's INFO and the PONG to our subscriptions.
func (f *fleet) greet(c *conn, i int, body []byte) error {
	switch {
	case f.target.Protocol == "pushgate":
		if !c.welcomed && !bytes.HasPrefix(body, []byte(`{"type":"welcome"`)) {
			return fmt.Errorf("session %d begins with %.80s", i, body)
		}
		c.welcomed = true
	case bytes.HasPrefix(body, []byte("INFO ")):
		hello := fmt.Sprintf("CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\nSUB push.user.%s 1\r\nSUB push.broadcast 2\r\nPING\r\n",
			f.target.userName(f.first+i))
		_, err := unix.Write(int(c.fd), clientFrame(opBinary, []byte(hello)))
		return err
	case bytes.Contains(body, []byte("-ERR")):
		return fmt.Errorf("session %d was refused: %.80s", i, body)
	case !bytes.Contains(body, []byte("PONG")):
		return nil
	}
	if f.target.Protocol == "pushgate" && !f.isOpen(body) {
		return nil
	}
	f.stands(c)
	return nil
}

// stands notes that a session is open.
func (f *fleet) stands(c *conn) {
	c.state = connOpen
	f.dialing--
	f.left++
	if f.open++; f.open == len(f.conns) {
		close(f.opened)
	}
}

// takeEvents acts on a stream of server-sent events, of which the gateway puts
// each message into one chunk.
func (f *fleet) takeEvents(c *conn, i int, data []byte) ([]byte, error) {
	end := bytes.LastIndex(data, []byte("\n\n"))
	if end < 0 {
		return data, nil
	}
	whole, rest := data[:end], bytes.TrimPrefix(data[end+2:], []byte("\r\n"))
	if bytes.Contains(whole, []byte("event: close")) {
		return nil, fmt.Errorf("the server closed session %d: %.200s", i, whole)
	}
	if c.state == connGreeting {
		if !bytes.Contains(whole, []byte("event: welcome")) {
			return nil, fmt.Errorf("session %d begins with %.80s", i, whole)
		}
		f.stands(c)
	} else if f.run != nil {
		f.run.take(&c.tracker, whole, time.Now().UnixNano())
	}
	return rest, nil
}

// isOpen looks whether a session stands with this frame: its welcome, or where
// it has come back with a cursor, the end of its replay.
func (f *fleet) isOpen(body []byte) bool {
	if f.welcome == nil {
		f.welcome = bytes.Clone(body)
	}
	if f.target.query == "" {
		return true
	}
	ending, ok := bytes.CutPrefix(body, []byte(`{"type":"resumed",`))
	if ok {
		f.endings[string(ending)]++
	}
	return ok
}

// resumed counts the sessions whose replay ended so.
func (f *fleet) resumed(how string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ending, sessions := range f.endings {
		if strings.HasPrefix(ending, how) {
			n += sessions
		}
	}
	return n
}

// freeze has the first of the clients stop reading, as a process does that is
// stopped.
func (f *fleet) freeze() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.conns[:f.target.slow] {
		if f.conns[i].state != connOpen {
			continue
		}
		if err := unix.EpollCtl(f.ep, unix.EPOLL_CTL_DEL, int(f.conns[i].fd), nil); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return nil
}

// permit lets one more client dial.
func (f *fleet) permit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.permits++
}

// drainWait is what a drain frame asks a client to wait, in milliseconds; 0 of
// any other frame.
func drainWait(body []byte) uint16 {
	if !bytes.HasPrefix(body, []byte(`{"type":"drain"`)) {
		return 0
	}
	var frame struct {
		After uint16 `json:"reconnect_after_ms"`
	}
	if json.Unmarshal(body, &frame) != nil {
		return 0
	}
	return frame.After
}
