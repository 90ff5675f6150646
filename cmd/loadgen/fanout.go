//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

type fanoutCommand struct {
	target
	Sessions int           `default:"10000" help:"Sessions to open."`
	Window   int           `default:"1" help:"Events under way at a time."`
	Size     int           `default:"256" help:"Bytes of payload."`
	Warmup   time.Duration `default:"1s" help:"Traffic before the measurement."`
	Time     time.Duration `default:"8s" help:"Length of the measurement."`
}

// Run is the command.
func (c *fanoutCommand) Run(ctx context.Context) error {
	res, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return report(fmt.Sprintf("fanout to %d, %d under way, %d B", c.Sessions, c.Window, c.Size), res, res.rows())
}

func (c *fanoutCommand) measure(ctx context.Context) (*result, error) {
	f, p, end, err := c.stage(ctx, c.Sessions)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := c.broadcast(ctx, f, p, c.Warmup); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	return c.broadcast(ctx, f, p, c.Time)
}

// stalledAfter is how long all sessions may take to get an event.
const stalledAfter = 30 * time.Second

// broadcast keeps Window events under way for so long, and one in any case: the
// next is published when all sessions have one.
func (c *fanoutCommand) broadcast(ctx context.Context, f *fleet, p publisher, length time.Duration) (*result, error) {
	r := newRun(c.Sessions, c.Window)
	f.measure(r)
	defer f.measure(nil)
	cpu, err := c.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	shown := began
	var buf []byte
	seq := uint32(0)
	for under := 0; seq == 0 || time.Since(began) < length || under > 0; {
		if under < c.Window && (seq == 0 || time.Since(began) < length) {
			seq++
			under++
			buf = payload(buf[:0], r.id, seq, time.Now().UnixNano(), c.Size)
			if err := p.publish("broadcast", buf); err != nil {
				return nil, fmt.Errorf("publishing: %w", err)
			}
			continue
		}
		select {
		case <-r.complete:
			under--
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(stalledAfter):
			return nil, fmt.Errorf("%w: %d of %d events under way", errStalled, under, seq)
		}
		if time.Since(shown) > time.Second {
			shown = time.Now()
			progress("%d events sent to %d sessions", seq, c.Sessions)
		}
	}
	took := time.Since(began)
	used, err := c.cpu()
	if err != nil {
		return nil, err
	}
	res := r.result(int64(seq), c.Sessions, took, used-cpu)
	res.Sessions, res.Gone = c.Sessions, f.gone.Load()
	return &res, nil
}
