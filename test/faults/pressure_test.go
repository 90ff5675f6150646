//go:build linux

package faults

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestMemoryPressure has more waiting for clients that do not read than there
// is memory for, none of it shared. The slow ones are ended before the kernel
// ends the process, and who reads notices nothing.
func TestMemoryPressure(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	g := startConfined(t, n.URL(), 64<<20, "GATEWAY_LIMITS_OUTBOX_BYTES=4MiB",
		"GATEWAY_HEARTBEAT=15m") // who does not read does not answer pings either
	b := newBackend(t, n.URL())
	alice := connect(t, g.Addr, "alice")
	const slow = 200
	for i := range slow {
		conn, err := rawDial(g.Addr, token(t, fmt.Sprint("slow", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	pad := strings.Repeat("x", 8<<10)
	sent := 0
	eventually(t, "the slow ones are ended", func(context.Context) bool {
		for i := range slow {
			if err := b.nc.Publish(fmt.Sprint("push.user.slow", i), []byte(`{"pad":"`+pad+`"}`)); err != nil {
				t.Fatal(err)
			}
		}
		sent = b.broadcast(t, 100)
		return g.metric(t, "pushgate_closes_total") >= slow
	})
	// The last ones, for which there is room longest, may be given up by the
	// kernel before, where that takes a minute.
	if ended := g.metric(t, `pushgate_closes_total{reason="overloaded"}`) + g.metric(t, `pushgate_closes_total{reason="slow_consumer"}`); ended < slow/2 {
		t.Errorf("only %v of %d were ended for being slow", ended, slow)
	}
	alice.has(t, sent)
	g.holds(t)
}
