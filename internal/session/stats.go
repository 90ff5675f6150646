package session

import (
	"math/bits"
	"sync/atomic"
	"time"

	"pushgate/api"
	"pushgate/internal/auth"
)

// loopStats are one loop's figures, written by the loop and read by anyone.
type loopStats struct {
	sessions   [transports]atomic.Int64 // open
	deliveries atomic.Int64
	outbox     atomic.Int64 // bytes
	busy       atomic.Int64 // nanoseconds
	accepted   atomic.Int64
	closes     [32]atomic.Int64 // by api.Reason
	latency    histogram
}

// open is the number of the loop's open sessions.
func (s *loopStats) open() int64 {
	n := int64(0)
	for i := range s.sessions {
		n += s.sessions[i].Load()
	}
	return n
}

// histogram counts durations in powers of two of a microsecond.
type histogram struct {
	buckets [LatencyBuckets]atomic.Int64
	sum     atomic.Int64 // nanoseconds
}

// LatencyBuckets is the number of latency buckets: bucket i counts what took
// less than 1<<i µs and not less than the one before; the last takes the rest.
const LatencyBuckets = 26

func (h *histogram) observe(d time.Duration) {
	if d < 0 {
		d = 0
	}
	i := bits.Len64(uint64(d / time.Microsecond))
	h.buckets[min(i, LatencyBuckets-1)].Add(1)
	h.sum.Add(int64(d))
}

// DropCause is why an event did not go further, as a metric label.
type DropCause uint8

// The causes.
const (
	DropTooLarge DropCause = iota // over limits.event_bytes
	DropSubject                   // not a literal subject that a session could hold
	DropMailbox                   // a loop was too far behind
	dropCauses
)

var dropLabels = [dropCauses]string{"too_large", "bad_subject", "loop_behind"}

// String is the metric label.
func (c DropCause) String() string { return dropLabels[c] }

// Stats is a reading of a hub's figures.
type Stats struct {
	Sessions   int64            // open
	Transports map[string]int64 // open, by transport
	HalfOpen   int64            // accepted and not yet a session
	Events     int64            // that entered the hub
	Deliveries int64            // event × session
	Outbox     int64            // bytes waiting for slow clients
	Accepted   int64            // connections
	Handshakes map[string]int64
	BadTokens  map[string]int64 // refused, by reason
	Closes     map[string]int64
	Drops      map[string]int64
	Latency    [LatencyBuckets]int64 // events, from the hub to the last socket
	LatencySum time.Duration
	Busy       []time.Duration // time each loop has worked
}

// Stats reads the figures; they need not be of one moment.
func (h *Hub) Stats() Stats {
	st := Stats{
		HalfOpen:   h.halfOpen.Load() + h.surplus.Load(),
		Events:     h.events.Load(),
		Transports: make(map[string]int64),
		Handshakes: make(map[string]int64),
		BadTokens:  make(map[string]int64),
		Closes:     make(map[string]int64),
		Drops:      make(map[string]int64),
	}
	for _, k := range append(api.RefusalKinds(), api.RefusedNot) {
		st.Handshakes[k.String()] = h.handshakes[k].Load()
	}
	for _, r := range auth.Reasons() {
		st.BadTokens[r.String()] = h.badTokens[r].Load()
	}
	for c := range h.drops {
		st.Drops[DropCause(c).String()] = h.drops[c].Load()
	}
	for _, r := range api.Reasons() {
		st.Closes[r.String()] = 0
	}
	for _, l := range h.loops {
		st.Sessions += l.stats.open()
		for t, label := range transportLabels {
			st.Transports[label] += l.stats.sessions[t].Load()
		}
		st.Deliveries += l.stats.deliveries.Load()
		st.Outbox += l.stats.outbox.Load()
		st.Accepted += l.stats.accepted.Load()
		for _, r := range api.Reasons() {
			st.Closes[r.String()] += l.stats.closes[r].Load()
		}
		for i := range st.Latency {
			st.Latency[i] += l.stats.latency.buckets[i].Load()
		}
		st.LatencySum += time.Duration(l.stats.latency.sum.Load())
		st.Busy = append(st.Busy, time.Duration(l.stats.busy.Load()))
	}
	return st
}
