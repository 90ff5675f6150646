package poll

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(settled{m}) }

// settled gives goroutines that are about to end the time for it on a busy
// machine; goleak itself gives them half a second.
type settled struct{ *testing.M }

func (s settled) Run() int {
	code := s.M.Run()
	for end := time.Now().Add(patience); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// patience bounds whatever a test waits for: machines may be slow.
const patience = time.Minute

// pair is a poller with one accepted connection, and its client.
type pair struct {
	t      *testing.T
	poller *Poller
	client *net.TCPConn
	fd     FD
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AddListener(l, 77); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Accept(); err != ErrAgain {
		t.Fatalf("accepting nobody: %v", err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := &pair{t: t, poller: p, client: conn.(*net.TCPConn), fd: -1}
	if r := c.wait(); r.Tag != 77 || !r.Read {
		t.Fatalf("the listener reports %+v", r)
	}
	fd, addr, err := l.Accept()
	if err != nil || addr.String() != "127.0.0.1" {
		t.Fatalf("accepted %v from %v: %v", fd, addr, err)
	}
	c.fd = fd
	if err := p.RemoveListener(l); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l.Close() // does no harm
	t.Cleanup(func() {
		_ = c.client.Close()
		if c.fd >= 0 {
			Close(c.fd)
		}
		p.Close()
	})
	return c
}

// wait returns the next report.
func (c *pair) wait() Ready {
	c.t.Helper()
	ready := make([]Ready, 4)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		n, err := c.poller.Wait(ready, 100)
		if err != nil {
			c.t.Fatal(err)
		}
		if n > 1 {
			c.t.Fatalf("%d reports, one is expected: %+v", n, ready[:n])
		}
		if n == 1 {
			return ready[0]
		}
	}
	c.t.Fatal("nothing is reported")
	return Ready{}
}

// quiet checks that nothing is reported.
func (c *pair) quiet() {
	c.t.Helper()
	ready := make([]Ready, 4)
	if n, err := c.poller.Wait(ready, 20); n != 0 || err != nil {
		c.t.Fatalf("%d reports, none is expected: %+v, %v", n, ready[:n], err)
	}
}

func (c *pair) send(text string) {
	c.t.Helper()
	if _, err := c.client.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func TestReadIsReportedUntilRead(t *testing.T) {
	c := newPair(t)
	b := make([]byte, 3)
	if err := c.poller.Add(c.fd, 1<<40|5); err != nil {
		t.Fatal(err)
	}
	c.quiet()
	if _, err := Read(c.fd, b); err != ErrAgain {
		t.Fatalf("reading nothing: %v", err)
	}
	c.send("hello")
	for _, want := range []string{"hel", "lo"} {
		if r := c.wait(); r != (Ready{Tag: 1<<40 | 5, Read: true}) {
			t.Fatalf("reported: %+v", r)
		}
		if n, err := Read(c.fd, b); err != nil || string(b[:n]) != want {
			t.Fatalf("read %q, %v; want %q", b[:n], err, want)
		}
	}
	c.quiet()
	if err := c.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if r := c.wait(); !r.Read {
		t.Fatalf("an end is reported as %+v", r)
	}
	if _, err := Read(c.fd, b); err != io.EOF {
		t.Fatalf("reading the end: %v", err)
	}
}

func TestWriteUntilFullAndOn(t *testing.T) {
	c := newPair(t)
	if err := c.poller.Add(c.fd, 9); err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("x"), 16<<10)
	sent := 0
	for {
		n, err := Write(c.fd, chunk)
		if err == ErrAgain {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if sent += n; sent > 64<<20 {
			t.Fatal("the socket is never full")
		}
	}
	if err := c.poller.Modify(c.fd, 10, true, true); err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	go func() {
		n, _ := io.Copy(io.Discard, c.client)
		got <- int(n)
	}()
	if r := c.wait(); r.Tag != 10 || !r.Write || r.Read {
		t.Fatalf("room is reported as %+v", r)
	}
	n, err := Write(c.fd, []byte("end"))
	if err != nil || n != 3 {
		t.Fatalf("writing on: %d, %v", n, err)
	}
	if err := c.poller.Modify(c.fd, 10, true, false); err != nil {
		t.Fatal(err)
	}
	c.quiet()
	CloseWrite(c.fd)
	if n := <-got; n != sent+3 {
		t.Fatalf("%d bytes arrived of %d", n, sent+3)
	}
}

func TestCloseWriteLeavesReading(t *testing.T) {
	c := newPair(t)
	if _, err := Write(c.fd, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	CloseWrite(c.fd)
	if b, err := io.ReadAll(c.client); err != nil || string(b) != "bye" {
		t.Fatalf("the client read %q, %v", b, err)
	}
	if err := c.poller.Add(c.fd, 3); err != nil {
		t.Fatal(err)
	}
	c.send("answer")
	for {
		c.wait()
		b := make([]byte, 64)
		n, err := Read(c.fd, b)
		if err == ErrAgain {
			continue
		}
		if err != nil || string(b[:n]) != "answer" {
			t.Fatalf("read %q, %v", b[:n], err)
		}
		return
	}
}

func TestRemovedAndClosedAreSilent(t *testing.T) {
	c := newPair(t)
	if err := c.poller.Add(c.fd, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.poller.Remove(c.fd); err != nil {
		t.Fatal(err)
	}
	c.send("x")
	c.quiet()
	if err := c.poller.Add(c.fd, 2); err != nil {
		t.Fatal(err)
	}
	if r := c.wait(); r.Tag != 2 {
		t.Fatalf("after it was added again: %+v", r)
	}
	Close(c.fd)
	c.fd = -1
	c.quiet()
	_ = c.client.SetReadDeadline(time.Now().Add(patience))
	var timeout net.Error
	if _, err := c.client.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the client sees no end: %v", err)
	}
}

func TestWake(t *testing.T) {
	c := newPair(t)
	var waking sync.WaitGroup
	defer waking.Wait() // nobody may wake a poller that is closed
	for range 3 {
		waking.Go(func() {
			c.poller.Wake()
			c.poller.Wake()
		})
		if n, err := c.poller.Wait(make([]Ready, 1), -1); n != 0 || err != nil {
			t.Fatalf("a wake-up reports %d, %v", n, err)
		}
	}
	// Before the wait it counts as well.
	c.poller.Wake()
	began := time.Now()
	if _, err := c.poller.Wait(make([]Ready, 1), int(patience/time.Millisecond)); err != nil || time.Since(began) >= patience {
		t.Fatalf("an early wake-up is lost: %v", err)
	}
}

// TestWakeIsNeverLost has two goroutines wake at the same time, again and
// again, each only when its last call was noticed.
func TestWakeIsNeverLost(t *testing.T) {
	c := newPair(t)
	const rounds = 20_000
	var asked, noticed [2]atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	var failed atomic.Bool
	for w := range asked {
		wg.Go(func() {
			for i := range int64(rounds) {
				asked[w].Store(i + 1)
				c.poller.Wake()
				for noticed[w].Load() <= i && !failed.Load() {
					runtime.Gosched()
				}
			}
		})
	}
	for noticed[0].Load() < rounds || noticed[1].Load() < rounds {
		began := time.Now()
		if _, err := c.poller.Wait(make([]Ready, 1), int(patience/time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if time.Since(began) >= patience {
			failed.Store(true)
			t.Fatalf("a wake-up was lost after %d and %d", noticed[0].Load(), noticed[1].Load())
		}
		for w := range asked {
			noticed[w].Store(asked[w].Load())
		}
	}
}

func TestDetach(t *testing.T) {
	c := newPair(t)
	c.send("early ")
	if err := c.poller.Add(c.fd, 1); err != nil {
		t.Fatal(err)
	}
	c.wait()
	if err := c.poller.Remove(c.fd); err != nil {
		t.Fatal(err)
	}
	conn, err := Detach(c.fd)
	c.fd = -1
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c.send("late")
	if err := c.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(conn); err != nil || string(b) != "early late" {
		t.Fatalf("read %q, %v", b, err)
	}
	if _, err := conn.Write([]byte("ok")); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if b, err := io.ReadAll(c.client); err != nil || string(b) != "ok" {
		t.Fatalf("the client read %q, %v", b, err)
	}
}

// TestAdopt sends a connection there and back, with bytes that come at each
// step and are read at the next.
func TestAdopt(t *testing.T) {
	c := newPair(t)
	c.send("one ")
	if err := c.poller.Add(c.fd, 1); err != nil {
		t.Fatal(err)
	}
	c.wait()
	if err := c.poller.Remove(c.fd); err != nil {
		t.Fatal(err)
	}
	conn, err := Detach(c.fd)
	c.fd = -1
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "on" {
		t.Fatalf("detached it reads %q, %v", b, err)
	}
	if _, err := conn.Write([]byte("ok")); err != nil {
		t.Fatal(err)
	}
	c.send("two")
	if c.fd, err = Adopt(conn); err != nil {
		t.Fatal(err)
	}
	if err := c.poller.Add(c.fd, 2); err != nil {
		t.Fatal(err)
	}
	got := ""
	for got != "e two" {
		if r := c.wait(); r.Tag != 2 || !r.Read {
			t.Fatalf("reported: %+v", r)
		}
		n, err := Read(c.fd, b)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got += string(b[:n])
	}
	c.quiet()
	if _, err := Read(c.fd, b); err != ErrAgain {
		t.Fatalf("reading nothing: %v", err)
	}
	if _, err := Write(c.fd, []byte(" bye")); err != nil {
		t.Fatal(err)
	}
	CloseWrite(c.fd)
	_ = c.client.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(c.client); err != nil || string(b) != "ok bye" {
		t.Fatalf("the client read %q, %v", b, err)
	}
}

func TestListenSaysWhy(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, addr := range []string{l.Addr().String(), "127.0.0.1", "127.0.0.1:notaport"} {
		if second, err := Listen(addr); err == nil {
			second.Close()
			t.Errorf("listening on %s is no error", addr)
		}
	}
}

func TestShed(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Shed([]byte("no")); err != ErrAgain {
		t.Fatalf("turning nobody away: %v", err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	end := time.Now().Add(patience)
	for l.Shed([]byte("no room")) != nil {
		if time.Now().After(end) {
			t.Fatal("a waiting connection is not turned away")
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(conn); err != nil || string(b) != "no room" {
		t.Fatalf("the client read %q, %v", b, err)
	}
}
