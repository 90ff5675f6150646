//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

type unicastCommand struct {
	target
	Sessions int           `default:"10000" help:"Sessions to open, one a user."`
	Rate     int           `default:"5000" help:"Events a second, each to a random user."`
	Size     int           `default:"256" help:"Bytes of payload."`
	Warmup   time.Duration `default:"1s" help:"Traffic before the measurement."`
	Time     time.Duration `default:"8s" help:"Length of the measurement."`
}

// Run is the command.
func (c *unicastCommand) Run(ctx context.Context) error {
	res, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return report(fmt.Sprintf("unicast, %d a second to %d users, %d B", c.Rate, c.Sessions, c.Size), res, res.rows())
}

func (c *unicastCommand) measure(ctx context.Context) (*result, error) {
	f, p, end, err := c.stage(ctx, c.Sessions)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := c.steady(ctx, f, p, c.Warmup); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	return c.steady(ctx, f, p, c.Time)
}

// steady publishes at the rate, whatever comes back: latency counts from when
// an event was due, so that a server that stalls cannot hide it.
func (c *unicastCommand) steady(ctx context.Context, f *fleet, p publisher, length time.Duration) (*result, error) {
	r := newRun(0, 0)
	f.measure(r)
	defer f.measure(nil)
	cpu, err := c.cpu()
	if err != nil {
		return nil, err
	}
	var buf []byte
	sent := make([]uint32, c.Sessions)
	began := time.Now()
	n, err := metronome(c.Rate, length, func(i int, due time.Time) error {
		user := rand.IntN(c.Sessions)
		sent[user]++
		buf = payload(buf[:0], r.id, sent[user], due.UnixNano(), c.Size)
		if i > 0 && i%c.Rate == 0 {
			progress("%d events sent to %d users", i, c.Sessions)
		}
		if err := p.publish("user."+c.userName(user), buf); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	r.settle(ctx, int64(n))
	took := time.Since(began)
	used, err := c.cpu()
	if err != nil {
		return nil, err
	}
	res := r.result(int64(n), 1, took, used-cpu)
	res.Sessions, res.Gone = c.Sessions, f.gone.Load()
	return &res, nil
}
