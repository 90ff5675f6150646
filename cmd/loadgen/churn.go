//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

type churnCommand struct {
	Sessions int `default:"1000000" help:"Connects and disconnects in all."`
	Batch    int `default:"10000" help:"Sessions at a time."`
}

// churnColumns are the figures that must not grow.
var churnColumns = []string{"descriptors", "goroutines", "sessions", "half open", "outbox B", "live heap MB", "RSS MB", "kernel slab MB"}

// Run is the command: sessions come and go, half of them with a close frame,
// half with a reset, and the gateway is read before, at half and after. Before
// is after some rounds, which leave what is used again.
func (c *churnCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	s := newServers()
	defer s.stop()
	if err := s.startGateway(ctx, b); err != nil {
		return err
	}
	t := &s.target
	// The same tokens each time: new ones would fill the cache of verified
	// tokens up to its bound, which is no leak.
	if t.tokens, err = hs256(t.Secret).mintAll(t, c.Batch); err != nil {
		return err
	}
	const warm = 10
	readings := map[string]map[string][]float64{}
	rounds := c.Sessions / c.Batch
	files := t.files()
	for round := range warm + rounds {
		if name := map[int]string{warm: "before", warm + rounds/2: "half"}[round]; name != "" {
			if err := c.read(t, readings, name); err != nil {
				return err
			}
		}
		if err := c.round(ctx, t, files, round%2 == 0); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		if (round-warm+1)%10 == 0 {
			progress("== %d of %d sessions have come and gone", (round-warm+1)*c.Batch, c.Sessions)
		}
	}
	if err := c.read(t, readings, "after"); err != nil {
		return err
	}
	table(fmt.Sprintf("%d connects and disconnects, %d at a time", rounds*c.Batch, c.Batch), "", []string{"before", "half", "after"}, churnColumns, readings)
	return json.NewEncoder(os.Stdout).Encode(readings)
}

// round opens a batch and ends it.
func (c *churnCommand) round(ctx context.Context, t *target, files int, politely bool) error {
	f, err := t.dial(ctx, 0, c.Batch)
	if err != nil {
		return err
	}
	if politely {
		if err := f.leave(ctx); err != nil {
			f.close()
			return err
		}
	}
	f.close()
	t.awaitFiles(files)
	return nil
}

// leave sends a close frame for every client and waits for the answers.
func (f *fleet) leave(ctx context.Context) error {
	f.mu.Lock()
	for i := range f.conns {
		if c := &f.conns[i]; c.state == connOpen {
			_, _ = unix.Write(int(c.fd), clientFrame(opClose, []byte{0x03, 0xe8}))
		}
	}
	f.mu.Unlock()
	select {
	case <-f.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%d of %d close frames were answered", f.gone.Load(), len(f.conns))
	}
}

// read reads a gateway that nobody is connected to, after collections: the
// second takes what pools gave up in the first.
func (c *churnCommand) read(t *target, readings map[string]map[string][]float64, name string) error {
	m, err := t.memory()
	if err != nil {
		return err
	}
	got := map[string]float64{
		"descriptors": float64(t.files()), "goroutines": float64(t.goroutines()),
		"RSS MB": float64(m.RSS) / 1e6, "kernel slab MB": float64(m.Slab) / 1e6,
	}
	live, err := t.liveHeap()
	if err != nil {
		return err
	}
	got["live heap MB"] = float64(live) / 1e6
	for column, counter := range map[string]string{
		"sessions": `pushgate_sessions{transport="websocket"}`, "half open": "pushgate_half_open", "outbox B": "pushgate_outbox_bytes",
	} {
		if got[column], err = t.counter(counter); err != nil {
			return err
		}
	}
	collect(readings, name, got)
	return nil
}
