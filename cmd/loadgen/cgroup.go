//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	stage "pushgate/test/servers"
)

type cgroupCommand struct {
	Rounds   int           `default:"3" help:"Measurements of each; medians are shown."`
	Small    int64         `default:"64" help:"MiB of the gateway that is filled."`
	Large    int64         `default:"256" help:"MiB of the gateway that broadcasts beside frozen readers."`
	Sessions int           `default:"10000" help:"Sessions of the latter, a fifth of them frozen."`
	Time     time.Duration `default:"25s" help:"Length of its broadcasts."`
}

// Run is the command. It needs a memory cgroup of its own: root, and a kernel
// or container that lets it make one.
func (c *cgroupCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	readings := map[string]map[string][]float64{}
	full, pressed := fmt.Sprintf("%d MiB, filled", c.Small), fmt.Sprintf("%d MiB, a fifth frozen", c.Large)
	for round := range c.Rounds {
		progress("== round %d of %d", round+1, c.Rounds)
		got, err := c.confined(ctx, b, c.Small, c.fill)
		if err != nil {
			return fmt.Errorf("%s: %w", full, err)
		}
		collect(readings, full, got)
		frozen := &frozenCommand{Sessions: c.Sessions, Share: 0.2, Rate: 2, Size: 8 << 10, Time: c.Time}
		got, err = c.confined(ctx, b, c.Large, func(ctx context.Context, t *target) (map[string]float64, error) {
			return frozen.measure(ctx, t, true)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", pressed, err)
		}
		collect(readings, pressed, got)
	}
	table("a gateway until it refuses", "memory", []string{full}, []string{"sessions", "refused politely", "OOM kills", "peak MiB"}, readings)
	table(fmt.Sprintf("broadcasts to %d, a fifth of them frozen", c.Sessions), "memory", []string{pressed},
		[]string{"p99 ms", "lost", "others dropped", "frozen closed", "after s", "OOM kills", "peak MiB"}, readings)
	return json.NewEncoder(os.Stdout).Encode(readings)
}

// confined starts a gateway inside a memory cgroup, and adds to what a
// measurement of it says what the kernel says of the group.
func (c *cgroupCommand) confined(ctx context.Context, b *binaries, mebibytes int64, measure func(context.Context, *target) (map[string]float64, error)) (map[string]float64, error) {
	group, err := stage.NewMemoryGroup(mebibytes << 20)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := group.Close(); err != nil {
			progress("removing the cgroup: %v", err)
		}
	}()
	s := newServers()
	defer s.stop()
	s.inside = group
	if err := s.startGateway(ctx, b); err != nil {
		return nil, err
	}
	got, err := measure(ctx, &s.target)
	killed, why := group.Killed()
	switch {
	case killed > 0:
		return nil, fmt.Errorf("the kernel has killed the gateway for want of memory: %w", err)
	case err != nil:
		return nil, err
	case why != nil:
		return nil, why
	}
	peak, err := group.Peak()
	if err != nil {
		return nil, err
	}
	got["OOM kills"], got["peak MiB"] = float64(killed), float64(peak)/(1<<20)
	return got, nil
}

// fill opens sessions until one is refused.
func (c *cgroupCommand) fill(ctx context.Context, t *target) (map[string]float64, error) {
	f, err := t.prepare(0, maxClients)
	if err != nil {
		return nil, err
	}
	go f.loop()
	defer f.close()
	why := f.wait(ctx)
	if why == nil {
		return nil, fmt.Errorf("%d sessions are open, and none was refused", maxClients)
	}
	polite := 0.0
	if text := why.Error(); strings.Contains(text, "HTTP/1.1 503 ") && strings.Contains(text, "Retry-After: ") {
		polite = 1
	}

	f.mu.Lock()
	held := f.open
	f.mu.Unlock()
	if open, err := t.counter(`pushgate_sessions{transport="websocket"}`); err != nil || int(open) < held {
		return nil, fmt.Errorf("%d sessions were opened, and the gateway has %v (%v)", held, open, err)
	}
	return map[string]float64{"sessions": float64(held), "refused politely": polite}, nil
}
