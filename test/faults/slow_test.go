//go:build linux

package faults

import (
	"fmt"
	"testing"
	"time"
)

// TestNATSFarAway has a link that is late, and later for some packets.
func TestNATSFarAway(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	l := newLink(t, n.Addr)
	for _, stream := range []string{"upstream", "downstream"} {
		l.poison(t, "latency", stream, map[string]any{"latency": 150, "jitter": 100})
	}
	g := startGateway(t, l.url(), durable...)
	b := newBackend(t, n.URL())
	alice := connect(t, g.Addr, "alice")
	b.store(t, "alice", 200)
	alice.has(t, 200)
	g.keptAll(t)
}

// TestNATSOverThinLink brings more than the link takes: it comes late, and all.
func TestNATSOverThinLink(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	l := newLink(t, n.Addr)
	g := startGateway(t, l.url(), durable...)
	b := newBackend(t, n.URL())
	alice := connect(t, g.Addr, "alice")
	const kilobytes = 40 // a second
	l.poison(t, "bandwidth", "downstream", map[string]any{"rate": kilobytes})
	began := time.Now()
	for i := range 20 {
		b.store(t, fmt.Sprint("u", i), 25)
		b.store(t, "alice", 25)
	}
	alice.has(t, 500)
	// An event is over 100 bytes, and all of them went over the link.
	if least := time.Duration(1000*100/kilobytes) * time.Millisecond; time.Since(began) < least {
		t.Errorf("everything came within %v: the link was not thin", time.Since(began))
	}
	if up := g.metric(t, "pushgate_nats_reconnects_total"); up != 0 {
		t.Errorf("the gateway left the slow link %v times", up)
	}
	g.keptAll(t)
}
