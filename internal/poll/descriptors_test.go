//go:build linux && !portable

package poll

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exhaust leaves the process no descriptor to open, until the test ends.
func exhaust(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	highest := 0
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			highest = max(highest, n)
		}
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highest + 1), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	var filled []int
	t.Cleanup(func() {
		for _, fd := range filled {
			_ = unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	for {
		fd, err := unix.Dup(0)
		if err == unix.EMFILE {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		filled = append(filled, fd)
	}
}

// alone has a test run in a process of its own, where no descriptor that an
// earlier test left to be closed comes back in the midst of it. It reports
// whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	const which = "PUSHGATE_TEST_ALONE"
	if os.Getenv(which) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), which+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func TestOutOfDescriptors(t *testing.T) {
	if !alone(t) {
		return
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var clients []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		clients = append(clients, conn)
	}
	exhaust(t)
	if _, _, err := l.Accept(); err != ErrDescriptors {
		t.Fatalf("accepting without a descriptor: %v", err)
	}
	// Each is told, one after the other, with the one in reserve.
	for i, conn := range clients {
		end := time.Now().Add(patience)
		err := l.Shed([]byte("no room"))
		for ; err == ErrAgain && time.Now().Before(end); err = l.Shed([]byte("no room")) {
			// Its handshake is not through on our side yet.
		}
		if err != nil {
			t.Fatalf("client %d is not turned away: %v", i, err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if b, err := io.ReadAll(conn); err != nil || string(b) != "no room" {
			t.Fatalf("client %d read %q, %v", i, b, err)
		}
	}
	if _, _, err := l.Accept(); err != ErrDescriptors {
		t.Fatalf("accepting nobody without a descriptor: %v", err)
	}
	if err := l.Shed(nil); err != ErrAgain {
		t.Fatalf("turning nobody away: %v", err)
	}
}

func TestMaxFiles(t *testing.T) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	if got := MaxFiles(); got != int(min(r.Cur, 1<<30)) {
		t.Errorf("MaxFiles is %d, the limit %d", got, r.Cur)
	}
}

// blockingPair is a blocking connection and its peer.
func blockingPair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Blocking(conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = b.Close(), peer.Close() })
	return b, peer
}

func TestBlocking(t *testing.T) {
	conn, peer := blockingPair(t)
	if conn.RemoteAddr().String() != peer.LocalAddr().String() || conn.LocalAddr().String() != peer.RemoteAddr().String() {
		t.Error("its addresses are not the connection's")
	}
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if n, err := io.ReadFull(peer, b[:4]); err != nil || string(b[:n]) != "ping" {
		t.Fatalf("the peer read %q, %v", b[:n], err)
	}
	if n, err := conn.Read(nil); n != 0 || err != nil {
		t.Fatalf("reading nothing: %d, %v", n, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(b); err == nil || !os.IsTimeout(err) {
		t.Fatalf("a deadline that passes: %v", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Write([]byte("pong")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(b); err != nil || string(b[:n]) != "pong" {
		t.Fatalf("read %q, %v", b[:n], err)
	}
	_ = peer.Close()
	if _, err := conn.Read(b); err != io.EOF {
		t.Fatalf("reading the end: %v", err)
	}
}

func TestBlockingCloseEndsARead(t *testing.T) {
	conn, _ := blockingPair(t)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	}()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the read got something")
		}
	case <-time.After(patience):
		t.Fatal("the read goes on")
	}
	if err := conn.Close(); err != net.ErrClosed {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := conn.Write([]byte("x")); err != net.ErrClosed {
		t.Errorf("writing after the end: %v", err)
	}
	if err := conn.SetDeadline(time.Now()); err != net.ErrClosed {
		t.Errorf("a deadline after the end: %v", err)
	}
}

// TestAdoptKeepsTheListenersOptions: the net package has others.
func TestAdoptKeepsTheListenersOptions(t *testing.T) {
	c := newPair(t)
	options := func() (got [4]int) {
		for i, option := range [][2]int{
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}, {unix.SOL_SOCKET, unix.SO_SNDBUF},
		} {
			var err error
			if got[i], err = unix.GetsockoptInt(int(c.fd), option[0], option[1]); err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	before := options()
	conn, err := Detach(c.fd)
	c.fd = -1
	if err != nil {
		t.Fatal(err)
	}
	if c.fd, err = Adopt(conn); err != nil {
		t.Fatal(err)
	}
	if after := options(); after != before {
		t.Errorf("keepalive, its interval, the time-out and the send buffer are %v, were %v", after, before)
	}
	flags, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("a child would inherit it: %x, %v", flags, err)
	}
}

func TestAdoptNeedsADescriptor(t *testing.T) {
	a, b := net.Pipe()
	defer func() { _ = b.Close() }()
	if _, err := Adopt(a); err == nil {
		t.Error("a pipe in memory is adopted")
	}
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("what was not adopted is still open")
	}
}
