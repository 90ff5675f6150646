//go:build linux

package faults

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// broadcast publishes the next event to everybody.
func (b *backend) broadcast(t *testing.T, size int) (n int) {
	t.Helper()
	b.n[""]++
	payload := fmt.Appendf(nil, `{"n":%d,"pad":%q}`, b.n[""], strings.Repeat("x", size))
	if err := b.nc.Publish("push.broadcast", payload); err != nil {
		t.Fatal(err)
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.n[""]
}

// TestFrozenClients stops a process full of clients under broadcasts. They are
// ended as slow consumers, their sockets too, and the others notice nothing.
func TestFrozenClients(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	g := startGateway(t, n.URL(), "GATEWAY_LIMITS_OUTBOX_BYTES=64KiB")
	b := newBackend(t, n.URL())
	clients := make([]*client, 20)
	for i := range clients {
		clients[i] = connect(t, g.Addr, fmt.Sprint("u", i))
	}
	files := g.metric(t, "process_open_fds")
	f := startCrowd(t, g.Addr)
	f.signal(t, syscall.SIGSTOP)
	sent := 0
	eventually(t, "the frozen ones are closed", func(context.Context) bool {
		for range 5 {
			sent = b.broadcast(t, 4096)
		}
		return g.metric(t, `pushgate_closes_total{reason="slow_consumer"}`) == crowdSize
	})
	for _, c := range clients {
		c.has(t, sent)
	}
	// Who is frozen does not answer a close frame.
	eventually(t, "their sockets are closed", func(context.Context) bool { return g.metric(t, "process_open_fds") <= files })
	if held := g.metric(t, "pushgate_outbox_bytes"); held != 0 {
		t.Errorf("%v bytes still wait for somebody", held)
	}
	ends := 0
	for code, n := range f.thaw(t) {
		if code != 4100 && code != -1 {
			t.Errorf("%d connections ended with %d", n, code)
		}
		ends += n
	}
	if ends != crowdSize {
		t.Errorf("%d of %d connections ended", ends, crowdSize)
	}
	if n := g.metric(t, "pushgate_closes_total"); n != crowdSize {
		t.Errorf("%v sessions were closed", n)
	}
}

// TestFrozenForAMoment thaws the clients before their outboxes are full: they
// go on as if nothing had been.
func TestFrozenForAMoment(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	g := startGateway(t, n.URL(), "GATEWAY_LIMITS_OUTBOX_BYTES=16MiB", "GATEWAY_HEARTBEAT=30s")
	b := newBackend(t, n.URL())
	f := startCrowd(t, g.Addr)
	f.signal(t, syscall.SIGSTOP)
	eventually(t, "something waits for the frozen ones", func(context.Context) bool {
		for range 5 {
			b.broadcast(t, 4096)
		}
		return g.metric(t, "pushgate_outbox_bytes") > 1<<20
	})
	f.signal(t, syscall.SIGCONT)
	eventually(t, "they have everything", func(context.Context) bool { return g.metric(t, "pushgate_outbox_bytes") == 0 })
	g.keptAll(t)
	g.drains(t)
	if codes := f.thaw(t); codes[1001] != crowdSize {
		t.Errorf("the connections ended with %v", codes)
	}
}

// TestFrozenAndQuiet stops clients that nothing is sent to: the heartbeat
// finds them.
func TestFrozenAndQuiet(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	g := startGateway(t, n.URL(), "GATEWAY_HEARTBEAT=2s")
	alice := connect(t, g.Addr, "alice")
	f := startCrowd(t, g.Addr)
	f.signal(t, syscall.SIGSTOP)
	began := time.Now()
	eventually(t, "the frozen ones are closed", func(context.Context) bool {
		return g.metric(t, `pushgate_closes_total{reason="heartbeat"}`) == crowdSize
	})
	if after := time.Since(began); after < 3*time.Second {
		t.Errorf("they were closed after %v, before they had been silent for two heartbeats", after)
	}
	if codes := f.thaw(t); codes[4101]+codes[-1] != crowdSize {
		t.Errorf("their connections ended with %v", codes)
	}
	newBackend(t, n.URL()).broadcast(t, 10)
	alice.has(t, 1)
}
