package session

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"pushgate/api"
	"pushgate/internal/poll"
)

// clientHello is how a TLS client begins.
func clientHello(tb testing.TB) []byte {
	tb.Helper()
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	go func() {
		_ = tls.Client(near, withName(clientTLS(0))).Handshake()
		_ = near.Close()
	}()
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil {
		tb.Fatal(err)
	}
	return b[:n]
}

// silentDialers connect and send nothing, and some stop in the middle.
func (h *testHub) silentDialers(tb testing.TB, silent, halfway int) (all []net.Conn) {
	tb.Helper()
	hello := clientHello(tb)
	for i := range silent + halfway {
		c := h.connect(tb)
		all = append(all, c)
		if i >= silent {
			c.write(string(hello[:len(hello)/2]))
		}
	}
	return all
}

// TestSilentDialersStarveNobody: hundreds that connect and send nothing, and
// hundreds that stop in the middle, wait for their deadline, which here does not
// come; who speaks is served meanwhile.
func TestSilentDialersStarveNobody(t *testing.T) {
	const silent, halfway, honest = 500, 200, 20
	h := startTLSHub(t, func(c *Config) { c.HalfOpen = 2048 })
	goroutines := runtime.NumGoroutine()
	all := h.silentDialers(t, silent, halfway)
	eventually(t, "all are half-open", func() bool { return h.halfOpen.Load() == silent+halfway })
	for i := range honest {
		h.dialTLS(t, fmt.Sprint("u", i), 0)
	}
	if n := h.halfOpen.Load(); n != silent+halfway {
		t.Errorf("when the last of the honest is served, %d still wait, want %d", n, silent+halfway)
	}
	for _, c := range all {
		_ = c.Close()
	}
	eventually(t, "none of them is half-open", func() bool { return h.halfOpen.Load() == 0 })
	// The honest ones' own goroutines are not the hub's.
	eventually(t, "no goroutine is left of them", func() bool { return runtime.NumGoroutine() < goroutines+honest*6 })
}

// TestSilentDialersAreEnded when their deadline comes, without a word.
func TestSilentDialersAreEnded(t *testing.T) {
	t.Parallel()
	const silent, halfway = 50, 20
	h := startTLSHub(t, realClock)
	all := h.silentDialers(t, silent, halfway)
	eventually(t, "each is ended and counted", func() bool { return h.Stats().TLSFailures == silent+halfway })
	if n := h.halfOpen.Load(); n != 0 {
		t.Errorf("%d are half-open", n)
	}
	for _, c := range all {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("a silent client is told something")
		} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatal("a silent client is not ended")
		}
	}
}

// awaited are the deadlines of requests that are to come over TLS.
func (h *testHub) awaited() (deadlines []uint16) {
	h.everywhere(func(l *loop) {
		for i, hd := range l.heads {
			if i > 0 && hd.wire != nil && !hd.refused {
				deadlines = append(deadlines, hd.deadline)
			}
		}
	})
	return deadlines
}

// TestTLSHeadDeadline: the handshake's time is the head's.
func TestTLSHeadDeadline(t *testing.T) {
	clock := aheadClock()
	h := startTLSHub(t, func(c *Config) { c.Now = clock.now })
	late := h.connect(t)
	eventually(t, "it is accepted", func() bool { return h.halfOpen.Load() == 1 })
	clock.move(h, 2*time.Second)
	conn := tls.Client(late.Conn, withName(clientTLS(0)))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	var deadlines []uint16
	eventually(t, "its request is awaited", func() bool { deadlines = h.awaited(); return len(deadlines) == 1 })
	if deadlines[0] != headTicks {
		t.Errorf("the request may take until %d, TLS until %d", deadlines[0], headTicks)
	}
	clock.move(h, (headTicks-2)*time.Second)
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("who sends no request: %v", err)
	}
	if n := h.Stats().Handshakes[api.RefusedSlowHead.String()]; n != 1 {
		t.Errorf("%d slow heads are counted: %v", n, h.Stats().Handshakes)
	}
}

// TestTLSSurplusIsClosed: beyond limits.half_open no handshake is spent.
func TestTLSSurplusIsClosed(t *testing.T) {
	h := startTLSHub(t, func(c *Config) { c.HalfOpen = 2 })
	first, second := h.connect(t), h.connect(t)
	eventually(t, "both are waited for", func() bool { return h.halfOpen.Load() == 2 })
	if n, err := h.connect(t).r.ReadByte(); err == nil {
		t.Errorf("a third is told %q", n)
	}
	if n := h.Stats().Handshakes[api.RefusedFull.String()]; n != 1 {
		t.Errorf("%d are refused", n)
	}
	for _, c := range []*rawClient{first, second} {
		if err := tls.Client(c.Conn, withName(clientTLS(0))).Handshake(); err != nil {
			t.Errorf("one that was there first: %v", err)
		}
	}
}

// TestCloseEndsTLSHandshakes does not wait for their deadline.
func TestCloseEndsTLSHandshakes(t *testing.T) {
	h := startTLSHub(t, nil)
	for range 50 {
		h.connect(t)
	}
	eventually(t, "all are half-open", func() bool { return h.halfOpen.Load() == 50 })
	began := time.Now()
	h.Close()
	if took := time.Since(began); took > patience { // the deadline is half an hour away
		t.Errorf("closing took %s", took)
	}
	if n := h.halfOpen.Load(); n != 0 {
		t.Errorf("%d are half-open", n)
	}
}

// TestTLSAfterOtherBytes starts TLS on a connection whose first bytes somebody
// has read already.
func TestTLSAfterOtherBytes(t *testing.T) {
	h := startTLSHub(t, nil)
	ln, err := poll.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	other := &testHub{h.Hub, ln.Addr().String()}
	for _, size := range []int{1, 5, 100, 2000} {
		plain := other.connect(t)
		conn := tls.Client(plain.Conn, withName(clientTLS(0)))
		shaken := make(chan error, 1)
		go func() { shaken <- conn.Handshake() }()
		var fd poll.FD
		eventually(t, "the connection is there", func() bool { fd, _, err = ln.Accept(); return err != poll.ErrAgain })
		if err != nil {
			t.Fatal(err)
		}
		read := make([]byte, size)
		n := 0
		eventually(t, "its first bytes are there", func() bool { n, err = poll.Read(fd, read); return err != poll.ErrAgain })
		if err != nil {
			t.Fatal(err)
		}
		h.loops[0].post(message{do: func(l *loop) { l.startTLS(fd, netip.Addr{}, read[:n]) }})
		if err := <-shaken; err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		c := &rawClient{conn, bufio.NewReader(conn), t}
		c.write(upgradeHead("alice"))
		c.upgraded()
		if got := c.object(t); got["type"] != "welcome" {
			t.Errorf("the first frame is %v", got)
		}
	}
}

// tlsWays are ways to come and go over TLS.
var tlsWays = []func(t *testing.T, h *testHub, user string){
	func(t *testing.T, h *testHub, user string) { // the good one
		c := h.dialRawTLS(t, user)
		c.write(masked(0x88, "\x03\xe8"))
		_, _ = io.Copy(io.Discard, c.r)
		_ = c.Close()
	},
	func(t *testing.T, h *testHub, user string) { // ends TLS, not the session
		_ = h.dialRawTLS(t, user).Close()
	},
	func(t *testing.T, h *testHub, user string) { // gone without a word
		c := h.dialRawTLS(t, user)
		_ = c.Conn.(*tls.Conn).NetConn().Close()
	},
	func(t *testing.T, h *testHub, user string) { // a reset
		c := h.dialRawTLS(t, user)
		tcp := c.Conn.(*tls.Conn).NetConn().(*net.TCPConn)
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	},
	func(t *testing.T, h *testHub, user string) { // breaks the protocol
		c := h.dialRawTLS(t, user)
		c.write("\xff\x80\x00\x00\x00\x00")
		_, _ = io.Copy(io.Discard, c.r)
		_ = c.Close()
	},
	func(t *testing.T, h *testHub, user string) { // breaks TLS
		c := h.dialRawTLS(t, user)
		_, _ = c.Conn.(*tls.Conn).NetConn().Write([]byte("\x17\x03\x03\x00\x20not what was agreed, not at all.."))
		_, _ = io.Copy(io.Discard, c.r)
		_ = c.Close()
	},
	func(t *testing.T, h *testHub, _ string) { // TLS and no request
		_ = h.connectTLS(t, clientTLS(0)).Close()
	},
	func(t *testing.T, h *testHub, _ string) { // TLS and half a request
		c := h.connectTLS(t, clientTLS(0))
		c.write("GET /v1/ws")
		_ = c.Close()
	},
	func(t *testing.T, h *testHub, _ string) { // no such path
		c := h.connectTLS(t, clientTLS(0))
		c.write("GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, c.r)
		_ = c.Close()
	},
	func(t *testing.T, h *testHub, _ string) { // half a hello
		c := h.connect(t)
		c.write("\x16\x03\x01\x02\x00\x01")
		_ = c.Close()
	},
	func(t *testing.T, h *testHub, _ string) { // nothing
		_ = h.connect(t).Close()
	},
	func(t *testing.T, h *testHub, _ string) { // no TLS
		c := h.connect(t)
		c.write(upgradeHead("alice"))
		_, _ = io.Copy(io.Discard, c.r)
		_ = c.Close()
	},
}

// TestTLSChurn has hundreds come and go, and finds nothing left.
func TestTLSChurn(t *testing.T) {
	h := startTLSHub(t, nil)
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	const workers, each = 4, 90
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(w)))
			for range each {
				tlsWays[rng.IntN(len(tlsWays))](t, h, fmt.Sprint("u", rng.IntN(50)))
			}
		})
	}
	wg.Wait()
	eventually(t, "all sessions to end", func() bool { return h.open.Load() == 0 && h.halfOpen.Load() == 0 })
	st := h.Stats()
	ended := int64(0)
	for _, n := range st.Closes {
		ended += n
	}
	if accepted := st.Handshakes["accepted"]; ended != accepted || accepted == 0 {
		t.Errorf("%d sessions began and %d ended", accepted, ended)
	}
	h.everywhere(func(l *loop) {
		checkEmpty(t, l)
		for i, e := range l.extras {
			if i > 0 && e.wire != nil {
				t.Errorf("loop %d: extra %d keeps its TLS", l.number, i)
			}
		}
		for i, hd := range l.heads {
			if i > 0 && hd.wire != nil {
				t.Errorf("loop %d: head %d keeps its TLS", l.number, i)
			}
		}
	})
	eventually(t, "all descriptors to be closed", func() bool { return openFiles(t) <= files })
	eventually(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
}
