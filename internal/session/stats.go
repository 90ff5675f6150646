package session

import (
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
	stalled    atomic.Int64 // sessions whose sockets are full
	stalls     atomic.Int64 // times that a socket became full
	busy       atomic.Int64 // nanoseconds
	lag        atomic.Int64 // nanoseconds: the longest turn of late
	memory     atomic.Int64 // bytes that sessions take
	accepted   atomic.Int64
	polls      atomic.Int64     // answered
	closes     [32]atomic.Int64 // by api.Reason
	replays    [replayScopes][replayResults]atomic.Int64
	replayed   atomic.Int64 // events of replays
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

// DropCause is why an event did not go further, as a metric label.
type DropCause uint8

// The causes.
const (
	DropTooLarge  DropCause = iota // over limits.event_bytes
	DropSubject                    // not a literal subject that a session could hold
	DropMailbox                    // a loop was too far behind
	DropExpired                    // its Push-TTL was over
	DropCollapsed                  // a newer one of the same Push-Collapse took its place
	DropSlow                       // a policy dropped it for a client that reads too slowly
	dropCauses
)

var dropLabels = [dropCauses]string{"too_large", "bad_subject", "loop_behind", "expired", "collapsed", "slow_consumer"}

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
	Stalled    int64            // sessions whose sockets are full
	Stalls     int64            // times that a socket became full
	Accepted   int64            // connections
	Polls      int64            // answered
	Idle       int64            // connections between two polls

	TLSFailures int64 // connections whose TLS handshake failed

	Handshakes map[string]int64
	BadTokens  map[string]int64 // refused, by reason
	Closes     map[string]int64
	Drops      map[string]int64
	Replays    []ReplayCount
	Replayed   int64 // events of replays
	RingEvents int   // stored events in memory
	RingBytes  int64
	RingAge    time.Duration // of the oldest of them
	Latency    LatencyCounts // events, from the hub to the last socket
	LatencySum time.Duration
	Memory     int64           // bytes that the tables of sessions take
	Busy       []time.Duration // time each loop has worked
	Lag        []time.Duration // each loop's longest turn of late
}

// Stats reads the figures; they need not be of one moment.
func (h *Hub) Stats() Stats {
	st := Stats{
		HalfOpen:   h.halfOpen.Load() + h.surplus.Load(),
		Idle:       h.idle.Load(),
		Events:     h.events.Load(),
		Transports: make(map[string]int64),
		Handshakes: make(map[string]int64),
		BadTokens:  make(map[string]int64),
		Closes:     make(map[string]int64),
		Drops:      make(map[string]int64),
	}
	if h.tls != nil {
		st.TLSFailures = h.tls.failed.Load()
	}
	st.RingEvents, st.RingBytes = h.ring.size()
	st.RingAge = h.ring.age(h.cfg.Now())
	st.Replays, st.Replayed = h.replayCounts()
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
		st.Stalled += l.stats.stalled.Load()
		st.Stalls += l.stats.stalls.Load()
		st.Memory += l.stats.memory.Load()
		st.Accepted += l.stats.accepted.Load()
		st.Polls += l.stats.polls.Load()
		for _, r := range api.Reasons() {
			st.Closes[r.String()] += l.stats.closes[r].Load()
		}
		for i := range st.Latency {
			st.Latency[i] += l.stats.latency.buckets[i].Load()
		}
		st.LatencySum += time.Duration(l.stats.latency.sum.Load())
		st.Busy = append(st.Busy, time.Duration(l.stats.busy.Load()))
		st.Lag = append(st.Lag, time.Duration(l.stats.lag.Load()))
	}
	return st
}
