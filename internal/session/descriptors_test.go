//go:build linux && !portable

package session

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"pushgate/api"
)

// TestOutOfDescriptors leaves the process no descriptor: who is there goes on,
// who comes is told, and when descriptors are back, clients are taken again.
func TestOutOfDescriptors(t *testing.T) {
	if !alone(t) {
		return
	}
	h := startHub(t, nil)
	alice := h.dial(t, "alice")
	host, port, _ := net.SplitHostPort(h.addr)
	number, _ := strconv.Atoi(port)
	if host != "127.0.0.1" {
		t.Fatal(h.addr)
	}
	// Sockets that need no descriptor any more to connect.
	var sockets []*os.File
	for range 5 {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		most := syscall.NsecToTimeval(int64(patience))
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &most); err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "client")
		defer func() { _ = f.Close() }()
		sockets = append(sockets, f)
	}
	restore := exhaust(t)
	for i, f := range sockets {
		if err := syscall.Connect(int(f.Fd()), &syscall.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(f, churnHead, fmt.Sprint("late", i)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(f), nil)
		if err != nil {
			t.Fatalf("client %d gets no answer: %v", i, err)
		}
		var body struct{ Error, Message string }
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || body.Error != "descriptors" || resp.Header.Get("Retry-After") == "" {
			t.Errorf("client %d is told %d %q, Retry-After %q", i, resp.StatusCode, body.Error, resp.Header.Get("Retry-After"))
		}
	}
	h.Deliver([]api.Event{event("user.alice", `"still here"`)})
	if got := alice.next()["data"]; got != "still here" {
		t.Errorf("the session that stands gets %v", got)
	}
	// Each is counted behind its answer.
	eventually(t, "5 refusals are counted", func() bool { return h.Stats().Handshakes[api.RefusedDescriptors.String()] == 5 })
	restore()
	bob := h.dial(t, "bob")
	h.Deliver([]api.Event{event("user.bob", `"hello"`)})
	if got := bob.next()["data"]; got != "hello" {
		t.Errorf("who comes afterwards gets %v", got)
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
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v", "-test.timeout=8m")
	cmd.Env = append(os.Environ(), which+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// exhaust leaves the process no descriptor to open, until restore.
func exhaust(t *testing.T) (restore func()) {
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
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(highest + 1), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	var filled []int
	restored := false
	restore = func() {
		if restored {
			return
		}
		restored = true
		for _, fd := range filled {
			_ = syscall.Close(fd)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	for {
		fd, err := syscall.Dup(0)
		if err == syscall.EMFILE {
			return restore
		}
		if err != nil {
			t.Fatal(err)
		}
		filled = append(filled, fd)
	}
}

// TestIdleSessionsCostNoGoroutine holds a few hundred and counts.
func TestIdleSessionsCostNoGoroutine(t *testing.T) {
	h := startHub(t, func(c *Config) { c.HalfOpen = 300 }) // they come all at once
	before := runtime.NumGoroutine()
	for i := range 300 {
		conn, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := fmt.Fprintf(conn, churnHead, fmt.Sprint("u", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "300 sessions", func() bool { return h.Stats().Sessions == 300 })
	eventually(t, "no goroutine of theirs", func() bool { return runtime.NumGoroutine() <= before })
}
