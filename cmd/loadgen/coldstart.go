//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

type coldStartCommand struct {
	Rounds int `default:"10" help:"Starts of each kind; medians are shown."`
}

// Run is the command: the size of the program, and the time from its start to
// its probes' first 200, beside a NATS server that runs already.
func (c *coldStartCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	program, err := os.Stat(filepath.Join(b.dir, "gateway"))
	if err != nil {
		return err
	}
	stream := []string{"GATEWAY_DURABLE_STREAM=PUSH", "GATEWAY_DURABLE_CREATE=true"}
	kinds := []string{"without a stream", "with a stream to make", "with a stream of 10,000 events"}
	readings := map[string]map[string][]float64{}
	for round := range c.Rounds {
		progress("== round %d of %d", round+1, c.Rounds)
		for k, settings := range [][]string{nil, stream, stream} {
			got, err := c.one(ctx, b, k == 2, settings)
			if err != nil {
				return fmt.Errorf("%s: %w", kinds[k], err)
			}
			collect(readings, kinds[k], got)
		}
	}
	table(fmt.Sprintf("cold start of the program, %.1f MB", float64(program.Size())/1e6), "gateway", kinds,
		[]string{"ms to /livez", "ms to /readyz"}, readings)
	return json.NewEncoder(os.Stdout).Encode(readings)
}

// one starts NATS, fills its stream where it is to be there before, and times a
// gateway.
func (c *coldStartCommand) one(ctx context.Context, b *binaries, filled bool, settings []string) (map[string]float64, error) {
	s := newServers()
	defer s.stop()
	dir, err := os.MkdirTemp(b.dir, "jetstream")
	if err != nil {
		return nil, err
	}
	if err := s.startNATS(ctx, b, false, "-jetstream="+dir); err != nil {
		return nil, err
	}
	if filled {
		if err := s.fillStream(ctx, b, settings); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if err := s.launch(ctx, b, settings...); err != nil {
		return nil, err
	}
	got := map[string]float64{}
	for _, probe := range []string{"livez", "readyz"} {
		for !s.answers("/" + probe) {
			if time.Since(began) > 20*time.Second {
				return nil, fmt.Errorf("/%s does not say 200", probe)
			}
			time.Sleep(time.Millisecond)
		}
		got["ms to /"+probe] = time.Since(began).Seconds() * 1e3
	}
	return got, nil
}

// fillStream has a gateway make the stream, and 10,000 events published into it.
func (s *servers) fillStream(ctx context.Context, b *binaries, settings []string) error {
	first := servers{target: s.target}
	defer first.stop()
	if err := first.addGateway(ctx, b, settings...); err != nil {
		return err
	}
	return (&resumeCommand{Sessions: 1000, Missed: 10}).publish(ctx, &first.target)
}
