//go:build linux && !portable

package session

import (
	"runtime"
	"testing"
	"time"
)

// liveMemory is what is in use of heap and stacks after a collection.
func liveMemory() uint64 {
	runtime.GC()
	runtime.GC() // what the first left in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// idleTLSBytes is what one idle TLS session takes: the slope between 200 and
// 1,200 of them.
func idleTLSBytes(tb testing.TB, version uint16) float64 {
	tb.Helper()
	h := startTLSHub(tb, func(c *Config) { c.Heartbeat = time.Hour })
	c := startClients(tb, h.addr, version)
	memory := func(n int64) float64 {
		eventually(tb, "the sessions stand", func() bool { return h.Stats().Sessions == n && h.halfOpen.Load() == 0 })
		return float64(liveMemory())
	}
	c.open(200)
	before := memory(200)
	c.open(1000)
	return (memory(1200) - before) / 1000
}

// maxIdleTLS is the most that an idle TLS session may take, in bytes.
const maxIdleTLS = 8 << 10

// TestIdleTLSSessionIsSmall holds the figure: 6.8 KB with TLS 1.3, most of it
// the client's first message, which tls.Conn keeps its buffers for.
func TestIdleTLSSessionIsSmall(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			got := idleTLSBytes(t, version)
			t.Logf("%.0f bytes a session", got)
			if got > maxIdleTLS {
				t.Errorf("an idle TLS session takes %.0f bytes, more than %d", got, maxIdleTLS)
			}
		})
	}
}

// BenchmarkIdleTLSSession reports the bytes of an idle TLS session.
func BenchmarkIdleTLSSession(b *testing.B) {
	for name, version := range versions {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(idleTLSBytes(b, version), "B/session")
			}
		})
	}
}
