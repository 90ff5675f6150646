//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"pushgate/api"
)

// floorCommand is the least that a server could do: it accepts anybody, and
// writes each event to everybody with one write(2) each. It has no sessions,
// no users, no outbox and no NATS.
type floorCommand struct {
	Listen  string `default:"127.0.0.1:0" help:"For the clients."`
	Control string `default:"127.0.0.1:0" help:"For what publishes."`
	Threads int    `default:"2" help:"Threads that write."`

	ready func(addr, control string) // nil: they are printed
}

// floor is a running one.
type floor struct {
	listener int
	threads  []*floorThread
	turn     int
}

type floorThread struct {
	frames chan []byte
	mu     sync.Mutex
	fds    []int
}

// Run is the command.
func (c *floorCommand) Run(ctx context.Context) error {
	addr, err := netip.ParseAddrPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen=%s: %w", c.Listen, err)
	}
	f := &floor{}
	if f.listener, err = listen(addr); err != nil {
		return err
	}
	control, err := net.Listen("tcp", c.Control)
	if err != nil {
		return err
	}
	for range c.Threads {
		t := &floorThread{frames: make(chan []byte, 1024)}
		f.threads = append(f.threads, t)
		go t.write()
	}
	bound, err := unix.Getsockname(f.listener)
	if err != nil {
		return err
	}
	if c.ready == nil {
		c.ready = func(addr, control string) { fmt.Println("ready", addr, control) }
	}
	c.ready(fmt.Sprint(addr.Addr(), ":", bound.(*unix.SockaddrInet4).Port), control.Addr().String())
	go f.accept()
	go func() {
		<-ctx.Done()
		_ = control.Close()
		_ = unix.Shutdown(f.listener, unix.SHUT_RDWR)
	}()
	for {
		conn, err := control.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go f.obey(conn)
	}
}

func listen(addr netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return 0, fmt.Errorf("bind: %w", err)
	}
	return fd, unix.Listen(fd, 4096)
}

const floorAnswer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

// accept takes one client after the other; they speak at once.
func (f *floor) accept() {
	welcome := `{"type":"welcome"}`
	answer := floorAnswer + string([]byte{0x81, byte(len(welcome))}) + welcome
	head := make([]byte, 16<<10)
	for {
		fd, _, err := unix.Accept4(f.listener, unix.SOCK_CLOEXEC)
		if err == unix.EINVAL { // shut down
			_ = unix.Close(f.listener)
			return
		}
		if err != nil {
			continue
		}
		patience := unix.NsecToTimeval(int64(30 * time.Second))
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)
		n, err := unix.Read(fd, head)
		for err == unix.EINTR { // the runtime's signals, which a timeout lets through
			n, err = unix.Read(fd, head)
		}
		if err != nil || !bytes.HasSuffix(head[:n], []byte("\r\n\r\n")) {
			_ = unix.Close(fd)
			continue
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetNonblock(fd, true)
		t := f.threads[f.turn%len(f.threads)]
		f.turn++
		// In one: what is published when the client has its welcome is for it.
		t.mu.Lock()
		_, _ = unix.Write(fd, []byte(answer))
		t.fds = append(t.fds, fd)
		t.mu.Unlock()
	}
}

// obey reads "LENGTH\n" and the payload, again and again, and has each written
// to everybody.
func (f *floor) obey(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReaderSize(conn, 1<<20)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || n < 0 || n > 1<<20 {
			return
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(in, data); err != nil {
			return
		}
		frame := floorFrame(data)
		for _, t := range f.threads {
			t.frames <- frame
		}
	}
}

// floorFrame is the same frame that the gateway sends.
func floorFrame(data []byte) []byte {
	text := api.AppendEvent(nil, &api.Event{Subject: "broadcast", Time: time.Now(), Data: data})
	if len(text) < 126 {
		return append([]byte{0x80 | opText, byte(len(text))}, text...)
	}
	frame := binary.BigEndian.AppendUint16([]byte{0x80 | opText, 126}, uint16(len(text)))
	return append(frame, text...)
}

// write is one thread: a loop of write(2).
func (t *floorThread) write() {
	runtime.LockOSThread()
	for frame := range t.frames {
		t.mu.Lock()
		kept := t.fds[:0]
		for _, fd := range t.fds {
			if floorWrite(fd, frame) {
				kept = append(kept, fd)
			} else {
				_ = unix.Close(fd)
			}
		}
		t.fds = kept
		t.mu.Unlock()
	}
}

// floorWrite waits where a socket is full: the floor has no outbox.
func floorWrite(fd int, frame []byte) bool {
	for len(frame) > 0 {
		// As bare as it gets: the scheduler is not told either.
		n, _, err := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&frame[0])), uintptr(len(frame)))
		switch err {
		case 0:
			frame = frame[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 100)
		default:
			return false
		}
	}
	return true
}
