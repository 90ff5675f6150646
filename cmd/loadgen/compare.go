//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type compareCommand struct {
	Rounds   int      `default:"3" help:"Measurements of each row; medians are shown."`
	Sessions int      `default:"10000" help:"Sessions of the broadcast, unicast and storm rows."`
	Crowd    int      `default:"15000" help:"Sessions of the idle and mixed rows."`
	Rows     []string `default:"idle,storm,fanout1,fanout16,unicast,mixed" help:"Rows to measure."`
	Servers  []string `default:"gateway,plain,natsserver,floor" help:"Servers to measure."`
	Before   string   `type:"existingfile" help:"An older gateway program: server \"before\", measured in turn with the others."`
	Stat     string   `type:"path" help:"Folder for the readings in the form that benchstat compares, a file a server."`
}

// olderServer is what an older gateway program is called.
const olderServer = "before"

// row is one measurement: on which servers it makes sense, and which figures
// of a result are shown.
type row struct {
	name, title string
	servers     []string
	measure     func(context.Context, *compareCommand, *target) (map[string]float64, error)
	columns     []string
}

var rows = []row{
	{"idle", "idle, bytes of user space a session", []string{"gateway", "plain", "natsserver"}, measureIdle,
		[]string{"B", "B anonymous", "B cold", "B kernel slab, both ends", "goroutines added"}},
	{"storm", "handshake", []string{"gateway", "plain", "natsserver"}, measureStorm,
		[]string{"CPU µs", "a CPU-second"}},
	{"fanout1", "broadcast, one event at a time", []string{"gateway", "plain", "natsserver", "floor"}, measureFanout(1),
		[]string{"CPU-s/M", "deliveries/s", "p50 ms", "p99 ms", "lost"}},
	{"fanout16", "broadcast, 16 events under way", []string{"gateway", "plain", "natsserver", "floor"}, measureFanout(16),
		[]string{"CPU-s/M", "deliveries/s", "p50 ms", "p99 ms", "lost"}},
	{"unicast", "unicast, 5,000 a second", []string{"gateway", "plain", "natsserver"}, measureUnicast,
		[]string{"CPU-s/M", "p50 ms", "p99 ms", "p99.9 ms", "lost"}},
	{"mixed", "unicast to 100 probes beside broadcasts", []string{"gateway", "plain"}, measureMixed,
		[]string{"p50 ms", "p99 ms", "p99.9 ms", "lost"}},
}

func measureIdle(ctx context.Context, c *compareCommand, t *target) (map[string]float64, error) {
	res, err := (&idleCommand{target: *t, Low: c.Crowd / 3, High: c.Crowd, Warm: 1}).measure(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"B": res.User, "B anonymous": res.Anonymous, "B cold": res.Cold, "B kernel slab, both ends": res.Kernel, "goroutines added": float64(res.Goroutines)}, nil
}

func measureStorm(ctx context.Context, c *compareCommand, t *target) (map[string]float64, error) {
	storm := &stormCommand{target: *t, Sessions: c.Sessions}
	before := t.files()
	if _, err := storm.measure(ctx); err != nil { // the first is for the caches
		return nil, err
	}
	t.awaitFiles(before)
	res, err := storm.measure(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"CPU µs": res.CPU, "a CPU-second": res.PerCPU}, nil
}

func figures(r *result) map[string]float64 {
	return map[string]float64{"CPU-s/M": r.CPU, "deliveries/s": r.Rate, "p50 ms": r.P50, "p99 ms": r.P99, "p99.9 ms": r.P999,
		"lost": float64(r.Lost + r.Duplicated + r.Late)}
}

func measureFanout(window int) func(context.Context, *compareCommand, *target) (map[string]float64, error) {
	return func(ctx context.Context, c *compareCommand, t *target) (map[string]float64, error) {
		res, err := (&fanoutCommand{target: *t, Sessions: c.Sessions, Window: window, Size: 256, Warmup: time.Second, Time: 5 * time.Second}).measure(ctx)
		if err != nil {
			return nil, err
		}
		return figures(res), nil
	}
}

func measureUnicast(ctx context.Context, c *compareCommand, t *target) (map[string]float64, error) {
	res, err := (&unicastCommand{target: *t, Sessions: c.Sessions, Rate: 5000, Size: 256, Warmup: time.Second, Time: 8 * time.Second}).measure(ctx)
	if err != nil {
		return nil, err
	}
	return figures(res), nil
}

func measureMixed(ctx context.Context, c *compareCommand, t *target) (map[string]float64, error) {
	res, err := (&mixedCommand{target: *t, Sessions: c.Crowd, Broadcasts: 2, Probes: 100, Rate: 200, Size: 256, Time: 8 * time.Second}).measure(ctx)
	if err != nil {
		return nil, err
	}
	return figures(&res.Probe), nil
}

// Run is the command. Each round measures a row on one server after the other,
// each freshly started, so that what the machine does in between meets all.
func (c *compareCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	b.before = c.Before
	// readings by row, server, column
	readings := map[string]map[string]map[string][]float64{}
	for _, r := range rows {
		if !slices.Contains(c.Rows, r.name) {
			continue
		}
		readings[r.name] = map[string]map[string][]float64{}
		servers := r.servers
		if c.Before != "" {
			servers = append([]string{olderServer}, servers...)
		}
		for round := range c.Rounds {
			for _, server := range servers {
				if server != olderServer && !slices.Contains(c.Servers, server) {
					continue
				}
				progress("== %s, %s, round %d of %d", r.name, server, round+1, c.Rounds)
				got, err := c.one(ctx, b, &r, server)
				if err != nil {
					return fmt.Errorf("%s of %s: %w", r.name, server, err)
				}
				if readings[r.name][server] == nil {
					readings[r.name][server] = map[string][]float64{}
				}
				for column, v := range got {
					readings[r.name][server][column] = append(readings[r.name][server][column], v)
				}
			}
		}
		table(r.title, "server", servers, r.columns, readings[r.name])
		if c.Stat != "" {
			if err := writeStat(c.Stat, &r, readings[r.name]); err != nil {
				return err
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(readings)
}

// one starts a server, measures one row on it and stops it.
func (c *compareCommand) one(ctx context.Context, b *binaries, r *row, server string) (map[string]float64, error) {
	s, err := b.start(ctx, server)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	return r.measure(ctx, c, &s.target)
}

// writeStat adds a row's readings to a file for each server, as lines of Go
// benchmarks. What benchstat takes for better when it grows ends in "/s".
func writeStat(dir string, r *row, readings map[string]map[string][]float64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for server, columns := range readings {
		f, err := os.OpenFile(filepath.Join(dir, server+".txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		for _, column := range r.columns {
			unit := strings.NewReplacer("a CPU-second", "handshakes/CPU-s", " ", "-").Replace(column)
			for _, v := range columns[column] {
				_, err = fmt.Fprintf(f, "BenchmarkGateway/%s 1 %g %s\n", r.name, v, unit)
			}
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// table prints readings as Markdown, a line for each of names: the median, and
// from where to where the readings went.
func table(title, of string, names, columns []string, readings map[string]map[string][]float64) {
	fmt.Printf("\n%s\n\n| %s | %s |\n| --- |%s\n", title, of, strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	for _, name := range names {
		if readings[name] == nil {
			continue
		}
		fmt.Printf("| %s |", name)
		for _, column := range columns {
			fmt.Printf(" %s |", spread(readings[name][column]))
		}
		fmt.Println()
	}
	fmt.Println()
}

// spread writes the median of readings and, in brackets, the lowest and the
// highest where there are several.
func spread(readings []float64) string {
	v := slices.Sorted(slices.Values(readings))
	if len(v) == 1 {
		return short(v[0])
	}
	return fmt.Sprintf("%s (%s–%s)", short(v[len(v)/2]), short(v[0]), short(v[len(v)-1]))
}

// short writes a figure with three digits that matter.
func short(v float64) string {
	switch {
	case v >= 100 || v <= -100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}
