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
	b.publish(t, fmt.Sprintf(`{"n":%d,"pad":%q}`, b.n[""], strings.Repeat("x", size)))
	return b.n[""]
}

// publish has NATS take an event to everybody.
func (b *backend) publish(t *testing.T, data string) {
	t.Helper()
	if err := b.nc.Publish("push.broadcast", []byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := b.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}

// TestFrozenClients stops a process full of clients under broadcasts. They are
// ended as slow consumers, their sockets too, and the others notice nothing.
func TestFrozenClients(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	// It is not the heartbeat that is to find them, however long it takes.
	g := startGateway(t, n.URL(), "GATEWAY_LIMITS_OUTBOX_BYTES=64KiB", "GATEWAY_HEARTBEAT=15m")
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
		// Nor is one of ours a slow consumer because this machine is slow.
		for _, c := range clients {
			c.has(t, sent)
		}
		return g.metric(t, `pushgate_closes_total{reason="slow_consumer"}`) == crowdSize
	})
	// Who is frozen does not answer a close frame.
	eventually(t, "their sockets are closed", func(context.Context) bool { return g.metric(t, "process_open_fds") <= files })
	eventually(t, "nothing waits for anybody", func(context.Context) bool { return g.metric(t, "pushgate_outbox_bytes") == 0 })
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
	g := startGateway(t, n.URL(), "GATEWAY_LIMITS_OUTBOX_BYTES=16MiB", "GATEWAY_HEARTBEAT=15m")
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
	// That nothing waits any more says only that their sockets hold the rest.
	b.publish(t, lastData)
	f.says(t, caughtUp)
	eventually(t, "nothing waits for them", func(context.Context) bool { return g.metric(t, "pushgate_outbox_bytes") == 0 })
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
	// She may be slow with her pongs, as anybody is on a busy machine.
	alice := connectTo(t, "ws://"+g.Addr+"/v1/ws?heartbeat=15m", "alice")
	began := time.Now() // before any of them can have been silent
	f := startCrowd(t, g.Addr)
	f.signal(t, syscall.SIGSTOP)
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
