//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

type drainCommand struct {
	Rounds   int           `default:"3" help:"Drains; medians are shown."`
	Sessions int           `default:"15000" help:"Sessions of the gateway that drains."`
	Delay    time.Duration `default:"2s" help:"drain.delay"`
	Window   time.Duration `default:"30s" help:"drain.window"`
}

// Run is the command: one of two gateways gets SIGTERM, and its clients go to
// the other one as the contract says: after the close, and after what their
// drain frame asked for.
func (c *drainCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	readings := map[string]map[string][]float64{}
	for round := range c.Rounds {
		progress("== round %d of %d", round+1, c.Rounds)
		got, err := c.one(ctx, b)
		if err != nil {
			return err
		}
		collect(readings, "drain", got)
	}
	table(fmt.Sprintf("drain of %d sessions over %v", c.Sessions, c.Window), "", []string{"drain"},
		[]string{"share closed 1001", "share inside the window", "first s", "last s", "exit s", "share arrived", "arrivals/s, mean", "arrivals/s, peak", "peak/mean"}, readings)
	return json.NewEncoder(os.Stdout).Encode(readings)
}

func (c *drainCommand) one(ctx context.Context, b *binaries) (map[string]float64, error) {
	s := newServers()
	defer s.stop()
	if err := s.startGateway(ctx, b); err != nil {
		return nil, err
	}
	second := s.target
	if err := s.addGateway(ctx, b, "GATEWAY_DRAIN_DELAY="+c.Delay.String(), "GATEWAY_DRAIN_WINDOW="+c.Window.String()); err != nil {
		return nil, err
	}
	first, leaving := s.target, s.processes[len(s.processes)-1]

	there, err := second.prepare(0, c.Sessions)
	if err != nil {
		return nil, err
	}
	there.permits, there.doze = 0, 2
	go there.loop()
	defer there.close()
	here, err := first.prepare(0, c.Sessions)
	if err != nil {
		return nil, err
	}
	m := &moves{}
	here.moved = func(after time.Duration) {
		m.closed(time.Now())
		time.AfterFunc(after, func() {
			m.arrived(time.Now())
			there.permit()
		})
	}
	go here.loop()
	defer here.close()
	if err := here.wait(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := leaving.Process.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	if err := leaving.Wait(); err != nil {
		return nil, fmt.Errorf("the gateway that drained ended with %w", err)
	}
	exit := time.Since(began)
	s.processes = s.processes[:len(s.processes)-1]
	select {
	case <-here.ended:
	case <-time.After(10 * time.Second):
		return nil, errors.New("the gateway is gone, and has not ended all sessions")
	}
	select {
	case <-there.opened:
	case <-there.stopped:
		return nil, there.failure()
	case <-time.After(10 * time.Second):
	}
	there.mu.Lock()
	arrived := there.open
	there.mu.Unlock()
	got := m.result(c, began)
	got["exit s"], got["share arrived"] = exit.Seconds(), float64(arrived)/float64(c.Sessions)
	return got, nil
}

// moves is when sessions were closed, and when they went elsewhere.
type moves struct {
	mu       sync.Mutex
	closes   []time.Time
	arrivals []time.Time
}

func (m *moves) closed(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closes = append(m.closes, at)
}

func (m *moves) arrived(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arrivals = append(m.arrivals, at)
}

// result counts arrivals by the second, from the first of them to the last.
func (m *moves) result(c *drainCommand, began time.Time) map[string]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	inside := 0
	for _, at := range m.closes {
		if since := at.Sub(began); since >= c.Delay && since <= c.Delay+c.Window {
			inside++
		}
	}
	got := map[string]float64{
		"share closed 1001":       float64(len(m.closes)) / float64(c.Sessions),
		"share inside the window": float64(inside) / float64(c.Sessions),
	}
	if len(m.arrivals) == 0 {
		return got
	}
	got["first s"], got["last s"] = m.closes[0].Sub(began).Seconds(), m.closes[len(m.closes)-1].Sub(began).Seconds()
	slices.SortFunc(m.arrivals, time.Time.Compare)
	since := m.arrivals[0]
	bySecond := make([]float64, int(m.arrivals[len(m.arrivals)-1].Sub(since)/time.Second)+1)
	for _, at := range m.arrivals {
		bySecond[int(at.Sub(since)/time.Second)]++
	}
	mean := float64(len(m.arrivals)) / max(m.arrivals[len(m.arrivals)-1].Sub(since).Seconds(), 1)
	got["arrivals/s, mean"], got["arrivals/s, peak"] = mean, slices.Max(bySecond)
	got["peak/mean"] = got["arrivals/s, peak"] / mean
	return got
}
