package main

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"pushgate/api"
	"pushgate/internal/session"
)

// reading is the figures of one moment. What happened since is the difference
// of two.
type reading struct {
	at time.Time
	session.Stats
}

func (s *status) read() reading { return reading{time.Now(), s.g.hub.Stats()} }

const (
	readEvery = 5 * time.Second
	// readingsKept reach back a minute.
	readingsKept = int(time.Minute/readEvery) + 1
	// rateOver is how far back rates look at least, once there is as much.
	rateOver = 10 * time.Second
)

// readings are those of the last minute, the oldest first.
type readings struct {
	mu   sync.Mutex
	kept []reading
}

func (s *status) keepReading(done <-chan struct{}) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.readings.add(s.read())
		case <-done:
			return
		}
	}
}

func (r *readings) add(one reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) == readingsKept {
		r.kept = slices.Delete(r.kept, 0, 1)
	}
	r.kept = append(r.kept, one)
}

// since returns the readings that rates and a minute's figures are counted
// from.
func (r *readings) since(now time.Time) (before, minute reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, minute = r.kept[0], r.kept[0]
	for _, one := range r.kept {
		if now.Sub(one.at) >= rateOver {
			before = one
		}
	}
	return before, minute
}

// rates are a second's.
type rates struct {
	Handshakes float64 `json:"handshakes"`
	Refusals   float64 `json:"refusals"`
	Endings    float64 `json:"endings"`
	Events     float64 `json:"events"`
	Deliveries float64 `json:"deliveries"`
}

var accepted = api.RefusedNot.String()

func ratesOf(now, before *reading) rates {
	seconds := max(now.at.Sub(before.at).Seconds(), 0.001)
	rate := func(now, before int64) float64 { return float64(now-before) / seconds }
	refused := func(r *reading) int64 { return sum(r.Handshakes) - r.Handshakes[accepted] }
	return rates{
		Handshakes: rate(now.Handshakes[accepted], before.Handshakes[accepted]),
		Refusals:   rate(refused(now), refused(before)),
		Endings:    rate(sum(now.Closes), sum(before.Closes)),
		Events:     rate(now.Events, before.Events),
		Deliveries: rate(now.Deliveries, before.Deliveries),
	}
}

func sum(counts map[string]int64) (total int64) {
	for _, n := range counts {
		total += n
	}
	return total
}

// loopReport is one loop: the share of its time that it works, and its longest
// turn of late.
type loopReport struct {
	Load float64 `json:"load"`
	Lag  float64 `json:"lag"`
}

func loopsOf(now, before *reading) []loopReport {
	seconds := max(now.at.Sub(before.at).Seconds(), 0.001)
	loops := make([]loopReport, len(now.Busy))
	for i := range loops {
		loops[i] = loopReport{Load: (now.Busy[i] - before.Busy[i]).Seconds() / seconds, Lag: now.Lag[i].Seconds()}
	}
	return loops
}

// latencyReport is of the events of the last minute, from NATS to the last
// socket.
type latencyReport struct {
	Events int64   `json:"events"`
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
}

func latencyOf(now, before *reading) latencyReport {
	counts, r := now.Latency, latencyReport{}
	for i := range counts {
		counts[i] -= before.Latency[i]
		r.Events += counts[i]
	}
	r.P50, r.P99 = counts.Quantile(0.5).Seconds(), counts.Quantile(0.99).Seconds()
	return r
}

// tally is one counter: of the last minute, and since the start.
type tally struct {
	Name   string `json:"name"`
	Minute int64  `json:"minute"`
	Total  int64  `json:"total"`
}

// talliesOf are the counters that ever counted, the busiest of late first.
func talliesOf(now, before map[string]int64, but ...string) []tally {
	all := []tally{}
	for name, n := range now {
		if n > 0 && !slices.Contains(but, name) {
			all = append(all, tally{name, n - before[name], n})
		}
	}
	slices.SortFunc(all, func(a, b tally) int {
		return cmp.Or(cmp.Compare(b.Minute, a.Minute), cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name))
	})
	return all
}
