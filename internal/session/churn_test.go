package session

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pushgate/api"
)

// churner is a client that behaves in one of many ways, most of them bad.
type churner struct {
	t    *testing.T
	addr string
}

const churnHead = "GET /v1/ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n"

// open connects as user; the reader stands behind the 101.
func (c churner) open(user string) (*net.TCPConn, *bufio.Reader) {
	conn := c.connect()
	_, _ = fmt.Fprintf(conn, churnHead, user)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		c.t.Errorf("the handshake gave %v, %v", resp, err)
	}
	return conn, r
}

func (c churner) connect() *net.TCPConn {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.t.Error(err)
		panic(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.TCPConn)
}

var churnWays = []func(c churner, user string){
	func(c churner, user string) { // the good one: closes and awaits the answer
		conn, r := c.open(user)
		_, _ = conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
		_, _ = io.Copy(io.Discard, r)
		_ = conn.Close()
	},
	func(c churner, user string) { // gone without a word
		conn, _ := c.open(user)
		_ = conn.Close()
	},
	func(c churner, user string) { // a reset
		conn, _ := c.open(user)
		_ = conn.SetLinger(0)
		_ = conn.Close()
	},
	func(c churner, user string) { // breaks the protocol, reads on
		conn, r := c.open(user)
		_, _ = conn.Write([]byte{0xff, 0x80, 0, 0, 0, 0})
		_, _ = io.Copy(io.Discard, r)
		_ = conn.Close()
	},
	func(c churner, user string) { // a reset before the answer
		conn := c.connect()
		_, _ = fmt.Fprintf(conn, churnHead, user)
		_ = conn.SetLinger(0)
		_ = conn.Close()
	},
	func(c churner, _ string) { // half a head
		conn := c.connect()
		_, _ = conn.Write([]byte(churnHead[:40]))
		_ = conn.Close()
	},
	func(c churner, _ string) { // no head at all
		_ = c.connect().Close()
	},
	func(c churner, _ string) { // nonsense
		conn := c.connect()
		_, _ = conn.Write([]byte("\x16\x03\x01\n\n\n"))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	},
	func(c churner, user string) { // closes its side and reads on
		conn, r := c.open(user)
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, r)
		_ = conn.Close()
	},
	func(c churner, user string) { // takes one event
		conn, r := c.open(user)
		_, _ = r.Peek(256)
		_ = conn.Close()
	},
}

// TestChurn has thousands of clients come and go while events are published to
// them, and finds nothing left: no session, slot, name, subject, buffer,
// half-open connection or descriptor.
func TestChurn(t *testing.T) {
	h := startHub(t, nil)
	files := openFiles(t)

	stop, published := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(published)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			events := []api.Event{{Subject: fmt.Sprint("user.u", i%50), Data: []byte("1"), Time: time.Now()}}
			if i%10 == 0 {
				events = append(events, api.Event{Subject: "broadcast", Data: []byte(`"all"`), Time: time.Now()})
			}
			h.Deliver(events)
			// A flood is another test's matter.
			for h.loops[0].box.count.Load()+h.loops[1].box.count.Load() > 64 {
				runtime.Gosched()
			}
		}
	}()
	const workers, each = 8, 400
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for range each {
				way := churnWays[rng.IntN(len(churnWays))]
				way(churner{t, h.addr}, fmt.Sprint("u", rng.IntN(50)))
			}
		})
	}
	wg.Wait()
	close(stop)
	<-published

	// Whoever went without a word may not even have been accepted yet: they come
	// before this one.
	churnWays[0](churner{t, h.addr}, "u0")
	eventually(t, "all sessions to end", func() bool {
		gone := func() bool { return h.open.Load() == 0 && h.halfOpen.Load() == 0 }
		if !gone() {
			return false
		}
		// A connection between two steps of its handshake counts nowhere for a
		// moment. That is over when all loops have been through a turn.
		h.everywhere(func(*loop) {})
		return gone()
	})
	st := h.Stats()
	ended := int64(0)
	for _, n := range st.Closes {
		ended += n
	}
	if accepted := st.Handshakes["accepted"]; ended != accepted || accepted == 0 {
		t.Errorf("%d sessions began and %d ended", accepted, ended)
	}
	if st.Sessions != 0 || st.Outbox != 0 {
		t.Errorf("%d sessions and %d outbox bytes are left", st.Sessions, st.Outbox)
	}
	h.everywhere(func(l *loop) { checkEmpty(t, l) })
	eventually(t, "all descriptors to be closed", func() bool { return openFiles(t) <= files })
}

// checkEmpty finds what a loop without sessions still holds.
func checkEmpty(t *testing.T, l *loop) {
	if l.slots.used != 0 || l.subjects.count != 0 {
		t.Errorf("loop %d: %d slots and %d subjects are in use", l.number, l.slots.used, l.subjects.count)
	}
	for i := range l.users.shards {
		if n := l.users.shards[i].used; n != 0 {
			t.Errorf("loop %d: %d users are left in a shard", l.number, n)
		}
		if n := l.subjects.table.shards[i].used; n != 0 {
			t.Errorf("loop %d: %d subjects are left in a shard", l.number, n)
		}
	}
	if got, want := len(l.idleActive), len(l.active)-1; got != want {
		t.Errorf("loop %d: %d of %d traffics are idle", l.number, got, want)
	}
	if got, want := len(l.freeHeads), len(l.heads)-1; got != want {
		t.Errorf("loop %d: %d of %d heads are free", l.number, got, want)
	}
	if len(l.freeExtras) != len(l.extras)-1 || len(l.grants) != 0 || len(l.broadcasts) != 0 || len(l.subjects.shapes) != 0 {
		t.Errorf("loop %d: extras, broadcasts or shapes are left", l.number)
	}
	if len(l.names.chunks) > 1 {
		t.Errorf("loop %d: 50 users have filled %d chunks of names", l.number, len(l.names.chunks))
	}
	if !noRoaming(l.hub) {
		t.Errorf("loop %d: subscriptions are counted", l.number)
	}
}

// openFiles counts this process's sockets, where the system tells.
func openFiles(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
