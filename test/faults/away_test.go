//go:build linux

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"pushgate/test/servers"
)

// TestNATSAwayForSeconds cuts gateways off while events are stored: nobody is
// closed, nothing is lost, and only who was given a grace becomes unready.
func TestNATSAwayForSeconds(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	l := newLink(t, n.Addr)
	patient := startGateway(t, l.url(), durable...)
	strict := startGateway(t, l.url(), append([]string{"GATEWAY_NATS_READY_GRACE=1s"}, durable...)...)
	b := newBackend(t, n.URL())
	alice, bob := connect(t, patient.Addr, "alice"), connect(t, strict.Addr, "bob")
	b.store(t, "alice", 10)
	b.store(t, "bob", 10)
	alice.has(t, 10)
	bob.has(t, 10)

	cut := time.Now()
	l.Stop()
	b.store(t, "alice", 50)
	b.store(t, "bob", 50)
	eventually(t, "the gateway with a grace is not ready", func(context.Context) bool { return !strict.isReady(t) })
	if after := time.Since(cut); after < time.Second {
		t.Errorf("it was unready after %v already, before its grace was over", after)
	}
	for _, g := range []*gateway{patient, strict} {
		eventually(t, "pushgate_nats_connected is 0 while NATS is away", func(context.Context) bool {
			return g.metric(t, "pushgate_nats_connected") == 0
		})
	}
	if !patient.isReady(t) {
		t.Error("the gateway without a grace is not ready")
	}
	// Whoever comes meanwhile gets a session, too.
	carol := connect(t, patient.Addr, "carol")

	l.mend(t)
	alice.has(t, 60)
	bob.has(t, 60)
	eventually(t, "the gateway with a grace is ready again", strict.ready)
	b.store(t, "carol", 5)
	carol.has(t, 5)
	patient.keptAll(t)
	strict.keptAll(t)
}

// TestNATSAwayForLong is away for longer than the ring reaches, and the server
// is killed and started anew meanwhile.
func TestNATSAwayForLong(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	l := newLink(t, n.Addr)
	g := startGateway(t, l.url(), append([]string{"GATEWAY_DURABLE_RING_BYTES=64KiB", "GATEWAY_NATS_READY_GRACE=1s"}, durable...)...)
	b := newBackend(t, n.URL())
	clients := make([]*client, 5)
	for i := range clients {
		clients[i] = connect(t, g.Addr, fmt.Sprint("u", i))
		b.store(t, clients[i].user, 3)
	}
	for _, c := range clients {
		c.has(t, 3)
	}
	l.Stop()
	cut := time.Now()
	if err := n.End(os.Kill); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		b.store(t, c.user, 300) // 64 KiB hold a seventh of it
	}
	eventually(t, "the gateway is not ready", func(context.Context) bool { return !g.isReady(t) })
	if err := servers.Pause(t.Context(), time.Until(cut.Add(*away))); err != nil {
		t.Fatal(err)
	}
	l.mend(t)
	for _, c := range clients {
		c.has(t, 303)
	}
	eventually(t, "the gateway is ready again", g.ready)
	// They are counted when the clients have them already.
	eventually(t, "all 1500 events were fetched, none came otherwise", func(context.Context) bool {
		return g.metric(t, "pushgate_stream_repaired_total") >= 1500
	})
	g.keptAll(t)
	g.drains(t)
}

// TestNATSKilled kills the server under a connection, again and again.
func TestNATSKilled(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	g := startGateway(t, n.URL(), durable...)
	b := newBackend(t, n.URL())
	alice := connect(t, g.Addr, "alice")
	for round := range 3 {
		b.store(t, "alice", 20)
		if err := n.End(os.Kill); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the gateway sees it", func(context.Context) bool {
			return g.metric(t, "pushgate_nats_connected") == 0
		})
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.store(t, "alice", 20)
		alice.has(t, 40*(round+1))
	}
	g.keptAll(t)
}

// TestNATSCutHalfWay ends the connection after some bytes, mostly in the midst
// of a message.
func TestNATSCutHalfWay(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	l := newLink(t, n.Addr)
	g := startGateway(t, l.url(), durable...)
	b := newBackend(t, n.URL())
	alice := connect(t, g.Addr, "alice")
	for range *cuts {
		before := g.reconnects(t)
		// NATS's greeting alone takes about 500 bytes.
		l.poison(t, "limit_data", "downstream", map[string]any{"bytes": 2_000 + rand.IntN(6_000)})
		b.store(t, "alice", 100)
		eventually(t, "the connection was cut", func(context.Context) bool { return g.reconnects(t) > before })
		l.heal()
	}
	alice.has(t, 100**cuts)
	g.keptAll(t)
}

// TestNATSSilent leaves the connection open, and lets nothing through: only
// the pings tell.
func TestNATSSilent(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	l := newLink(t, n.Addr)
	g := startGateway(t, l.url(), append([]string{"GATEWAY_NATS_READY_GRACE=1s"}, durable...)...)
	b := newBackend(t, n.URL())
	alice := connect(t, g.Addr, "alice")
	b.store(t, "alice", 10)
	alice.has(t, 10)
	l.poison(t, "timeout", "downstream", map[string]any{"timeout": 0})
	b.store(t, "alice", 10)
	eventually(t, "the gateway sees that NATS is away", func(context.Context) bool { return !g.isReady(t) })
	l.heal()
	alice.has(t, 20)
	eventually(t, "the gateway is ready again", g.ready)
	g.keptAll(t)
}
