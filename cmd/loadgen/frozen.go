//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

type frozenCommand struct {
	Rounds   int           `default:"7" help:"Pairs of runs, with and without frozen clients; medians are shown."`
	Sessions int           `default:"10000" help:"Sessions of a run."`
	Share    float64       `default:"0.2" help:"Of them, the share that stops reading."`
	Rate     int           `default:"2" help:"Broadcasts a second."`
	Size     int           `default:"8192" help:"Bytes of payload: the outboxes of the frozen must fill."`
	Time     time.Duration `default:"25s" help:"Length of a run."`
}

// frozenColumns are the figures of a run.
var frozenColumns = []string{"p50 ms", "p99 ms", "lost", "others dropped", "frozen closed", "after s", "sockets gone s",
	"RSS MB more", "kernel MB more"}

// Run is the command: the same broadcasts to sessions that all read, and to as
// many of which a share stops to, in turn, each with a fresh gateway.
func (c *frozenCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	readings := map[string]map[string][]float64{}
	names := []string{"none frozen", "frozen"}
	for round := range c.Rounds {
		for k := range names {
			name := names[(round+k)%2]
			progress("== %s, round %d of %d", name, round+1, c.Rounds)
			got, err := c.one(ctx, b, name == "frozen")
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			collect(readings, name, got)
		}
	}
	n := int(float64(c.Sessions) * c.Share)
	table(fmt.Sprintf("broadcast of %d B, %d a second, to %d sessions, %d of them frozen", c.Size, c.Rate, c.Sessions, n), "run",
		names, frozenColumns, readings)
	fmt.Printf("the others' p99 beside frozen ones: %s × that without\n", spread(ratios(readings["frozen"]["p99 ms"], readings["none frozen"]["p99 ms"])))
	for _, column := range []string{"RSS MB more", "kernel MB more"} {
		each := make([]float64, c.Rounds)
		for i := range each {
			each[i] = (readings["frozen"][column][i] - readings["none frozen"][column][i]) * 1e3 / float64(n)
		}
		fmt.Printf("%s than without, a frozen client: %s KB\n", strings.TrimSuffix(column, " MB more"), spread(each))
	}
	return json.NewEncoder(os.Stdout).Encode(readings)
}

func (c *frozenCommand) one(ctx context.Context, b *binaries, freeze bool) (map[string]float64, error) {
	s := newServers()
	defer s.stop()
	if err := s.startGateway(ctx, b); err != nil {
		return nil, err
	}
	got, err := c.measure(ctx, &s.target, freeze)
	return got, err
}

// measure opens the sessions and broadcasts to them. Sockets of those that are
// to freeze take little, so that what waits for them waits at the gateway, as
// it does where the client is another machine.
func (c *frozenCommand) measure(ctx context.Context, t *target, freeze bool) (map[string]float64, error) {
	frozen := 0
	if freeze {
		frozen = int(float64(c.Sessions) * c.Share)
	}
	client := *t
	client.slow = frozen
	f, p, end, err := client.stage(ctx, c.Sessions)
	if err != nil {
		return nil, err
	}
	defer end()
	others := c.Sessions - frozen
	if _, err := steadily(ctx, f, p, c.Rate, c.Sessions, 2*time.Second, padded(256)); err != nil { // warm
		return nil, err
	}
	files := t.files() - frozen
	if err := f.freeze(); err != nil {
		return nil, err
	}
	w, err := t.watch(ctx, files, frozen)
	if err != nil {
		return nil, err
	}
	res, err := steadily(ctx, f, p, c.Rate, others, c.Time, padded(c.Size))
	if err != nil {
		w.end()
		return nil, err
	}
	got := map[string]float64{"p50 ms": res.P50, "p99 ms": res.P99, "lost": float64(res.Lost + res.Duplicated + res.Late),
		"others dropped": float64(f.gone.Load())}
	return got, w.result(ctx, got)
}

// padded makes payloads of a size.
func padded(size int) func([]byte, uint32, uint32, int64) []byte {
	return func(b []byte, run, seq uint32, sent int64) []byte { return payload(b, run, seq, sent, size) }
}

// steadily broadcasts at a rate, to so many who are to get it.
func steadily(ctx context.Context, f *fleet, p publisher, rate, takers int, length time.Duration,
	write func(b []byte, run, seq uint32, sent int64) []byte) (*result, error) {
	r := newRun(0, 0)
	f.measure(r)
	defer f.measure(nil)
	began := time.Now()
	var buf []byte
	n, err := metronome(rate, length, func(i int, due time.Time) error {
		buf = write(buf[:0], r.id, uint32(i+1), due.UnixNano())
		if err := p.publish("broadcast", buf); err != nil {
			return err
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("publishing: %w", err)
	}
	r.settle(ctx, int64(n)*int64(takers))
	res := r.result(int64(n), takers, time.Since(began), 0)
	if res.Deliveries == 0 {
		return nil, errStalled
	}
	return &res, nil
}

// collect adds the figures of one measurement to the readings of a name.
func collect(readings map[string]map[string][]float64, name string, got map[string]float64) {
	if readings[name] == nil {
		readings[name] = map[string][]float64{}
	}
	for column, v := range got {
		readings[name][column] = append(readings[name][column], v)
	}
}

// ratios are those of readings taken in pairs.
func ratios(a, b []float64) []float64 {
	all := make([]float64, len(a))
	for i := range a {
		all[i] = a[i] / b[i]
	}
	return all
}
