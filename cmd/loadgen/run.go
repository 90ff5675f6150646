//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// run accounts the events of one measurement.
type run struct {
	id uint32

	mu       sync.Mutex
	arrived  int64 // the second of two not counted
	late     int64
	twice    int64
	latency  histogram
	last     int64          // when the newest arrived
	takers   int32          // sessions that each event goes to; 0: nobody waits for completion
	counts   [1 << 12]int32 // arrivals of event seq, at seq % len
	complete chan struct{}  // one for each event that all takers have
	changed  chan struct{}  // has room for one: something arrived
}

func newRun(takers, window int) *run {
	return &run{
		id: rand.Uint32(), takers: int32(takers),
		complete: make(chan struct{}, max(window, 1)), changed: make(chan struct{}, 1),
	}
}

// take accounts the measured events in what one session got.
func (r *run) take(t *tracker, b []byte, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.arrived
	for {
		id, seq, sent, rest, ok := nextEvent(b)
		if !ok {
			break
		}
		b = rest
		if id != r.id {
			continue
		}
		switch t.take(id, seq) {
		case twice:
			r.twice++
			continue
		case late:
			r.late++
		}
		r.arrived++
		r.latency.add(time.Duration(now - sent))
		if r.takers > 0 {
			if n := &r.counts[seq%uint32(len(r.counts))]; *n+1 == r.takers {
				*n = 0
				select {
				case r.complete <- struct{}{}:
				default:
				}
			} else {
				*n++
			}
		}
	}
	if r.arrived > before {
		r.last = now
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
}

var errStalled = errors.New("events stopped arriving")

// settle waits until want events have arrived, or none has for two seconds.
func (r *run) settle(ctx context.Context, want int64) {
	for {
		r.mu.Lock()
		got := r.arrived
		r.mu.Unlock()
		if got >= want {
			return
		}
		select {
		case <-r.changed:
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
			return
		}
	}
}

// result is what a run of events gave.
type result struct {
	Sessions   int     `json:"sessions"`
	Seconds    float64 `json:"seconds"`
	Events     int64   `json:"events"`
	Deliveries int64   `json:"deliveries"`
	Rate       float64 `json:"deliveries_per_second"`
	CPU        float64 `json:"cpu_seconds_per_million"`
	Lost       int64   `json:"lost"`
	Duplicated int64   `json:"duplicated"`
	Late       int64   `json:"out_of_order"`
	Gone       int64   `json:"sessions_dropped"`
	latencies
}

// result reads a run that sent so many events, each to so many sessions.
func (r *run) result(events int64, each int, took, cpu time.Duration) result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := result{
		Seconds: took.Seconds(), Events: events, Deliveries: r.arrived,
		Rate: float64(r.arrived) / took.Seconds(),
		Lost: events*int64(each) - r.arrived, Duplicated: r.twice, Late: r.late,
		latencies: r.latency.latencies(),
	}
	if r.arrived > 0 {
		res.CPU = cpu.Seconds() / float64(r.arrived) * 1e6
	}
	return res
}

func (r *result) rows() [][2]string {
	return [][2]string{
		{"sessions", fmt.Sprint(r.Sessions)},
		{"events", fmt.Sprintf("%d in %.1f s", r.Events, r.Seconds)},
		{"deliveries", fmt.Sprintf("%d, %.0f a second", r.Deliveries, r.Rate)},
		{"server CPU", fmt.Sprintf("%.2f s a million deliveries", r.CPU)},
		{"latency", fmt.Sprintf("p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms", r.P50, r.P99, r.P999)},
		{"lost, duplicated, out of order", fmt.Sprintf("%d, %d, %d", r.Lost, r.Duplicated, r.Late)},
		{"sessions dropped by the server", fmt.Sprint(r.Gone)},
	}
}
