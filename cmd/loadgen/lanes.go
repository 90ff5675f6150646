//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

type lanesCommand struct {
	Rounds  int           `default:"1" help:"Measurements of each lane in turn; medians are shown."`
	Clients int           `default:"1000" help:"Clients of each lane, one a user."`
	Time    time.Duration `default:"20s" help:"Length of each measurement."`
	Poll    time.Duration `default:"2s" help:"How often the polling lane asks."`
	Size    int           `default:"256" help:"Bytes of payload."`
}

// load is what is published while a lane is measured.
type load struct {
	name string
	rate int // events a second
	all  bool
}

// Run is the command: the same events to the same number of clients, lane after
// lane, at one gateway that is started freshly.
func (c *lanesCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	s := newServers()
	defer s.stop()
	if err := s.startDurable(ctx, b); err != nil {
		return err
	}
	p, err := s.target.publisher()
	if err != nil {
		return err
	}
	defer p.close()
	results := map[string]map[string]map[string][]float64{}
	columns := []string{"requests", "empty answers", "CPU-s", "B up", "B down", "p50 ms", "p99 ms", "lost", "twice"}
	for _, l := range []load{{"an event to each client every 10 s", max(c.Clients/10, 1), false}, {"10 events a second to all", 10, true}} {
		results[l.name] = map[string]map[string][]float64{}
		for round := range c.Rounds {
			for _, name := range laneNames {
				progress("== %s, %s, round %d of %d", l.name, name, round+1, c.Rounds)
				got, err := c.measure(ctx, &s.target, p, l, name)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if results[l.name][name] == nil {
					results[l.name][name] = map[string][]float64{}
				}
				for column, v := range got {
					results[l.name][name][column] = append(results[l.name][name][column], v)
				}
			}
		}
		table(fmt.Sprintf("%d clients for %s: %s", c.Clients, c.Time, l.name), "lane", laneNames, columns, results[l.name])
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// measure has the clients of one lane come, publishes to them, and has them go.
func (c *lanesCommand) measure(ctx context.Context, t *target, p publisher, l load, name string) (map[string]float64, error) {
	files := t.files()
	ctx, stop := context.WithCancel(ctx)
	lane := &lane{target: t, name: name, every: c.Poll, now: time.Now(), ready: make(chan error, c.Clients)}
	var clients sync.WaitGroup
	defer func() { stop(); clients.Wait(); t.awaitFiles(files) }()
	for i := range c.Clients {
		clients.Go(func() { lane.client(ctx, i) })
	}
	for range c.Clients {
		select {
		case err := <-lane.ready:
			if err != nil {
				return nil, err
			}
		case <-time.After(time.Minute):
			return nil, fmt.Errorf("not all %d clients have begun after a minute", c.Clients)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r := newRun(0, 0)
	lane.run.Store(r)
	before, err := lane.reading()
	if err != nil {
		return nil, err
	}
	n, each, err := c.publish(ctx, t, p, l, r)
	if err != nil {
		return nil, err
	}
	after, err := lane.reading()
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(3*c.Poll + 5*time.Second); r.report(0).Arrived < int64(n*each) && time.Now().Before(end); {
		<-tick.C
	}
	if err := lane.failure(); err != nil {
		return nil, err
	}
	res := r.result(int64(n), each, c.Time, 0)
	return map[string]float64{"requests": after.requests - before.requests, "empty answers": after.empty - before.empty, "CPU-s": after.cpu - before.cpu,
		"B up": after.up - before.up, "B down": after.down - before.down, "p50 ms": res.P50, "p99 ms": res.P99,
		"lost": float64(res.Lost), "twice": float64(res.Duplicated)}, nil
}

// publish publishes the load and returns how many events, and to how many
// clients each.
func (c *lanesCommand) publish(ctx context.Context, t *target, p publisher, l load, r *run) (n, each int, err error) {
	sent := make([]uint32, c.Clients)
	each = 1
	if l.all {
		each = c.Clients
	}
	n, err = metronome(l.rate, c.Time, func(i int, due time.Time) error {
		subject, seq := "broadcast", uint32(i+1)
		if !l.all {
			user := i % c.Clients
			sent[user]++
			subject, seq = "user."+t.userName(user), sent[user]
		}
		if err := p.publish(subject, payload(nil, r.id, seq, due.UnixNano(), c.Size)); err != nil {
			return err
		}
		return ctx.Err()
	})
	return n, each, err
}
