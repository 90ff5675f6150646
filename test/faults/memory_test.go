//go:build linux

package faults

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"pushgate/test/servers"
)

// confined is a gateway with so much memory: by the kernel where a memory
// cgroup can be made. Elsewhere it is told the sessions that it would reckon
// itself, and the test watches its memory.
type confined struct {
	*gateway
	group *servers.MemoryGroup
	limit int64
}

func startConfined(t *testing.T, natsURL string, limit int64, settings ...string) *confined {
	t.Helper()
	group, err := servers.NewMemoryGroup(limit)
	if err != nil {
		t.Logf("%v; the gateway's memory is read instead", err)
		settings = append(settings, fmt.Sprint("GATEWAY_LIMITS_SESSIONS=", limit/(5<<10)), fmt.Sprint("GOMEMLIMIT=", limit*9/10))
	}
	c := &confined{gateway: newGateway(t, natsURL, settings...), group: group, limit: limit}
	if group != nil {
		t.Cleanup(func() { // behind the process's end
			if err := group.Close(); err != nil {
				t.Error(err)
			}
		})
		group.Confine(&c.Process)
	}
	start(t, &c.Process)
	return c
}

// holds fails the test if the gateway has taken more than it has.
func (c *confined) holds(t *testing.T) {
	t.Helper()
	if c.group == nil {
		if rss := peakRSS(t, c.PID()); rss > c.limit {
			t.Errorf("the gateway had %d bytes resident, of %d", rss, c.limit)
		}
	} else if killed, err := c.group.Killed(); err != nil || killed > 0 {
		t.Errorf("the kernel has killed %d processes (%v)", killed, err)
	}
	if status, _ := c.answer(t, "/livez"); status != http.StatusOK {
		t.Errorf("the gateway is not alive: %d", status)
	}
}

// peakRSS is the most that a process had resident.
func peakRSS(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatal("the kernel does not say what the process had resident")
	return 0
}

// TestMemoryIsFull lets clients come until they are refused: politely, before
// the kernel ends the process, and who is in is served.
func TestMemoryIsFull(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	// Nobody answers pings, and nobody is to be closed for that meanwhile.
	g := startConfined(t, n.URL(), 40<<20, "GATEWAY_HEARTBEAT=15m")
	b := newBackend(t, n.URL())
	alice := connect(t, g.Addr, "alice")
	token := token(t, "many")
	var in []net.Conn
	defer func() {
		for _, conn := range in {
			_ = conn.Close()
		}
	}()
	for {
		conn, err := rawDial(g.Addr, token)
		var no *refusedError
		if errors.As(err, &no) {
			if !no.polite() {
				t.Errorf("refused with %q", no.head)
			}
			break
		}
		if err != nil {
			t.Fatalf("client %d: %v", len(in), err)
		}
		in = append(in, conn)
	}
	t.Logf("%d sessions in 40 MiB", len(in)+1)
	if len(in) < 500 {
		t.Errorf("refused after %d sessions already", len(in))
	}
	for i := range 20 {
		if b.broadcast(t, 100) != i+1 {
			t.Fatal("numbers")
		}
	}
	alice.has(t, 20)
	g.holds(t)
}
