//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

type stormCommand struct {
	target
	Sessions int `default:"10000" help:"Handshakes, each with a token of its own."`
}

type stormResult struct {
	Sessions int     `json:"sessions"`
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"handshakes_per_second"`
	CPU      float64 `json:"cpu_microseconds_each"`
	PerCPU   float64 `json:"handshakes_per_cpu_second"`
}

// Run is the command.
func (c *stormCommand) Run(ctx context.Context) error {
	res, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return report(fmt.Sprintf("storm of %d handshakes", c.Sessions), res, [][2]string{
		{"handshakes", fmt.Sprintf("%.0f a second", res.Rate)},
		{"server CPU", fmt.Sprintf("%.1f µs each, %.0f a CPU-second", res.CPU, res.PerCPU)},
	})
}

// measure counts from the first connect to the last welcome; closing is not
// part of it.
func (c *stormCommand) measure(ctx context.Context) (*stormResult, error) {
	before, err := c.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	f, err := c.dial(ctx, 0, c.Sessions)
	if err != nil {
		return nil, err
	}
	defer f.close()
	took := time.Since(began)
	after, err := c.cpu()
	if err != nil {
		return nil, err
	}
	used := after - before
	res := &stormResult{Sessions: c.Sessions, Seconds: took.Seconds(), Rate: float64(c.Sessions) / took.Seconds()}
	if used > 0 {
		res.CPU = float64(used.Microseconds()) / float64(c.Sessions)
		res.PerCPU = float64(c.Sessions) / used.Seconds()
	}
	return res, nil
}
