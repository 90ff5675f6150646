package session

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"pushgate/internal/auth"
)

// newBareHub is a hub whose loops do not run: its state is the test's alone.
func newBareHub(tb testing.TB, loops int) *Hub {
	tb.Helper()
	h, err := New(Config{
		Log: zap.NewNop(), Loops: loops, Subscriptions: map[string][]string{"": {"user.{sub}", "broadcast"}},
		Heartbeat: time.Minute, OutboxBytes: 256 << 10, MessageBytes: 4 << 10, EventBytes: 64 << 10, HalfOpen: 16,
	})
	if err != nil {
		tb.Fatal(err)
	}
	h.everywhere(func(l *loop) { l.stopping = true })
	for _, l := range h.loops {
		<-l.done
	}
	tb.Cleanup(h.Close)
	return h
}

func enrollUser(h *Hub, user string, expires int64) (*loop, uint32) {
	l := h.homeOf(user)
	id, _ := l.enroll(&admission{
		handshake: &handshake{fd: -1},
		identity:  auth.Identity{User: user, Subjects: []string{"user." + user, "broadcast"}, Expires: expires},
	})
	h.open.Add(1)
	return l, id
}

func (l *loop) forget(id uint32) {
	s := l.slots.at(id)
	l.leaveIndex(id, s)
	l.stats.sessions[s.transport()].Add(-1)
	s.state = stateClosing
	l.drop(id, s)
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func heapInUse() uint64 {
	runtime.GC()
	debug.FreeOSMemory() // and what the first left in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// collectionCPU is the median of what a full collection costs, in milliseconds
// of CPU.
func collectionCPU() float64 {
	var all [9]time.Duration
	for i := range all {
		began := cpuTime()
		runtime.GC()
		all[i] = cpuTime() - began
	}
	slices.Sort(all[:])
	return float64(all[len(all)/2].Microseconds()) / 1000
}

// BenchmarkMillionSessions holds 1,000,000 sessions of distinct users, each
// with a subject of its own and the common one, then replaces half of them ten
// times over. It reports the bytes a session before and after, and the CPU of
// a full collection.
func BenchmarkMillionSessions(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		before := heapInUse()
		b.ReportMetric(collectionCPU(), "gc-cpu-ms-before")
		h := newBareHub(b, 2)
		expires := time.Now().Add(time.Hour).Unix()
		type place struct {
			loop uint32 // no pointer: the collector's work is to be the hub's
			id   uint32
		}
		places := make([]place, n)
		own := uint64(cap(places)) * 8
		for i := range places {
			l, id := enrollUser(h, fmt.Sprintf("u%07d", i), expires)
			places[i] = place{uint32(l.number), id}
		}
		b.ReportMetric(float64(heapInUse()-before-own)/n, "B/session")

		b.ReportMetric(collectionCPU(), "gc-cpu-ms")

		next := n
		for round := range 10 {
			for i := round % 2; i < n; i += 2 {
				h.loops[places[i].loop].forget(places[i].id)
			}
			for i := round % 2; i < n; i += 2 {
				l, id := enrollUser(h, fmt.Sprintf("u%07d", next), expires)
				places[i] = place{uint32(l.number), id}
				next++
			}
		}
		b.ReportMetric(float64(heapInUse()-before-own)/n, "B/session-after-churn")
		runtime.KeepAlive(places)
	}
}
