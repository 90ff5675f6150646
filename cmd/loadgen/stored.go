//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

type storedCommand struct {
	Rounds   int `default:"3" help:"Measurements of each line; medians are shown."`
	Sessions int `default:"10000" help:"Sessions of each."`
}

// Run is the command: the same events under the stored and under the ephemeral
// root, in turn, to a gateway that is started freshly for each reading.
func (c *storedCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	settings := &compareCommand{Sessions: c.Sessions}
	for _, m := range []struct {
		name    string
		measure func(context.Context, *compareCommand, *target) (map[string]float64, error)
	}{{"unicast, 5,000 a second", measureUnicast}, {"broadcast, 16 under way", measureFanout(16)}} {
		readings := map[string]map[string][]float64{}
		for round := range c.Rounds {
			for _, root := range []string{"flash", "push"} {
				progress("== %s on %s, round %d of %d", m.name, root, round+1, c.Rounds)
				got, err := c.one(ctx, b, root, func(t *target) (map[string]float64, error) { return m.measure(ctx, settings, t) })
				if err != nil {
					return fmt.Errorf("%s on %s: %w", m.name, root, err)
				}
				if readings[root] == nil {
					readings[root] = map[string][]float64{}
				}
				for column, v := range got {
					readings[root][column] = append(readings[root][column], v)
				}
			}
		}
		table(m.name, "root", []string{"flash", "push"}, []string{"CPU-s/M", "deliveries/s", "p50 ms", "p99 ms", "lost"}, readings)
		ratios := make([]float64, c.Rounds)
		for i := range ratios {
			ratios[i] = readings["flash"]["CPU-s/M"][i] / readings["push"]["CPU-s/M"][i]
		}
		fmt.Printf("stored: %s × as many deliveries a CPU-second as ephemeral\n", spread(ratios))
		if err := json.NewEncoder(os.Stdout).Encode(readings); err != nil {
			return err
		}
	}
	return nil
}

func (c *storedCommand) one(ctx context.Context, b *binaries, root string, measure func(*target) (map[string]float64, error)) (map[string]float64, error) {
	s := newServers()
	defer s.stop()
	if err := s.startDurable(ctx, b); err != nil {
		return nil, err
	}
	s.target.root = root
	return measure(&s.target)
}
