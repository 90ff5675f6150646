//go:build linux

package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

type deflateCommand struct {
	Rounds   int           `default:"5" help:"Pairs of runs; medians are shown."`
	Sessions int           `default:"10000" help:"Sessions of a run."`
	Rate     int           `default:"8" help:"Broadcasts a second."`
	Time     time.Duration `default:"10s" help:"Length of a run."`
}

// corpus is JSON as backends of apps send it, about 2 KB each.
//
//go:embed corpus/*.json
var corpus embed.FS

// Run is the command: the same broadcasts to clients that offer
// permessage-deflate and to such that do not, in turn.
func (c *deflateCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	documents, err := readCorpus()
	if err != nil {
		return err
	}
	readings := map[string]map[string][]float64{}
	names := []string{"plain", "deflate"}
	for round := range c.Rounds {
		for k := range names {
			name := names[(round+k)%2]
			progress("== %s, round %d of %d", name, round+1, c.Rounds)
			got, err := c.one(ctx, b, documents, name == "deflate")
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			collect(readings, name, got)
		}
	}
	table(fmt.Sprintf("broadcast of JSON of 2 KB, %d a second, to %d", c.Rate, c.Sessions), "clients", names,
		[]string{"CPU-s/M", "B a delivery", "p50 ms", "p99 ms", "lost"}, readings)
	fmt.Printf("deflate to plain: CPU %s ×, bytes %s ×\n", spread(ratios(readings["deflate"]["CPU-s/M"], readings["plain"]["CPU-s/M"])),
		spread(ratios(readings["deflate"]["B a delivery"], readings["plain"]["B a delivery"])))
	return json.NewEncoder(os.Stdout).Encode(readings)
}

func readCorpus() (documents [][]byte, err error) {
	files, err := corpus.ReadDir("corpus")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		b, err := corpus.ReadFile("corpus/" + file.Name())
		if err != nil {
			return nil, err
		}
		documents = append(documents, b)
	}
	return documents, nil
}

func (c *deflateCommand) one(ctx context.Context, b *binaries, documents [][]byte, deflate bool) (map[string]float64, error) {
	s := newServers()
	defer s.stop()
	if err := s.startGateway(ctx, b); err != nil {
		return nil, err
	}
	t := s.target
	t.deflate = deflate
	f, p, end, err := t.stage(ctx, c.Sessions)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := c.broadcast(ctx, f, p, documents, 2*time.Second); err != nil { // warm
		return nil, err
	}
	cpu, err := t.cpu()
	if err != nil {
		return nil, err
	}
	bytes := f.received()
	res, err := c.broadcast(ctx, f, p, documents, c.Time)
	if err != nil {
		return nil, err
	}
	used, err := t.cpu()
	if err != nil {
		return nil, err
	}
	if f.inflate != nil && f.inflate.messages == 0 {
		return nil, fmt.Errorf("the gateway has compressed nothing")
	}
	got := figures(res)
	got["CPU-s/M"] = (used - cpu).Seconds() / float64(res.Deliveries) * 1e6
	got["B a delivery"] = float64(f.received()-bytes) / float64(res.Deliveries)
	return got, nil
}

// broadcast sends the documents in turn, at a rate.
func (c *deflateCommand) broadcast(ctx context.Context, f *fleet, p publisher, documents [][]byte, length time.Duration) (*result, error) {
	return steadily(ctx, f, p, c.Rate, c.Sessions, length, func(b []byte, run, seq uint32, sent int64) []byte {
		b = fmt.Appendf(b, `{"run":%d,"seq":%d,"sent":%d,"pad":`, run, seq, sent)
		return append(append(b, documents[int(seq)%len(documents)]...), '}')
	})
}

// received is how many bytes have come so far.
func (f *fleet) received() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}
