//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

type slowheadsCommand struct {
	Rounds    int           `default:"7" help:"Measurements; medians are shown."`
	Attackers int           `default:"2000" help:"Connections that drip their heads; who is ended comes again."`
	Rate      int           `default:"100" help:"Honest handshakes a second."`
	Time      time.Duration `default:"12s" help:"Length of each; heads are given up after five seconds."`
}

// Run is the command: honest handshakes alone, and beside attackers, in turn.
func (c *slowheadsCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	readings := map[string]map[string][]float64{}
	for round := range c.Rounds {
		progress("== round %d of %d", round+1, c.Rounds)
		if err := c.one(ctx, b, readings, round%2 == 1); err != nil {
			return err
		}
	}
	table(fmt.Sprintf("honest handshakes, %d a second, beside %d who drip their heads", c.Rate, c.Attackers), "handshakes",
		[]string{"alone", "beside attackers"}, []string{"share", "p50 ms", "p99 ms", "half open", "attackers ended"}, readings)
	fmt.Printf("p99 beside attackers: %s × that of alone\n", spread(ratios(readings["beside attackers"]["p99 ms"], readings["alone"]["p99 ms"])))
	return json.NewEncoder(os.Stdout).Encode(readings)
}

// one takes both figures of a fresh gateway.
func (c *slowheadsCommand) one(ctx context.Context, b *binaries, readings map[string]map[string][]float64, attackFirst bool) error {
	s := newServers()
	defer s.stop()
	if err := s.startGateway(ctx, b); err != nil {
		return err
	}
	t := &s.target
	key := hs256(t.Secret)
	if _, err := t.handshakes(key, c.Rate, 2*time.Second); err != nil { // warm
		return err
	}
	for _, attack := range []bool{attackFirst, !attackFirst} {
		name, measure := "alone", func() (map[string]float64, error) { return t.handshakes(key, c.Rate, c.Time) }
		if attack {
			name, measure = "beside attackers", func() (map[string]float64, error) { return c.attacked(ctx, t, key) }
		}
		got, err := measure()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !attack {
			got["half open"], got["attackers ended"] = 0, 0
		}
		collect(readings, name, got)
	}
	return nil
}

// attacked measures while all attackers are there.
func (c *slowheadsCommand) attacked(ctx context.Context, t *target, key signer) (map[string]float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	a := &attack{addr: t.Addr, conns: make([]net.Conn, c.Attackers)}
	var attacking sync.WaitGroup
	defer attacking.Wait()
	defer cancel()
	if err := a.come(); err != nil {
		return nil, err
	}
	attacking.Go(func() { a.drip(ctx) })
	got, err := t.handshakes(key, c.Rate, c.Time)
	if err != nil {
		return nil, err
	}
	half, err := t.counter("pushgate_half_open")
	if err != nil {
		return nil, err
	}
	cancel()
	attacking.Wait()
	got["half open"], got["attackers ended"] = half, float64(a.ended)
	if a.failed != nil {
		return nil, fmt.Errorf("attacking: %w", a.failed)
	}
	if a.ended == 0 {
		return nil, errors.New("no attacker was ended, however long it dripped")
	}
	return got, nil
}

// attack is connections that send a byte of their heads now and then.
type attack struct {
	addr   string
	conns  []net.Conn
	ended  int
	failed error
}

// come connects those who are not connected.
func (a *attack) come() (err error) {
	for i, conn := range a.conns {
		if conn == nil && err == nil {
			a.conns[i], err = net.DialTimeout("tcp", a.addr, 5*time.Second)
		}
	}
	return err
}

// drip goes on until ctx ends: a byte each, twice a second. A gateway that has
// ended a connection is tried again at once.
func (a *attack) drip(ctx context.Context) {
	defer func() {
		for _, conn := range a.conns {
			if conn != nil {
				_ = conn.Close()
			}
		}
	}()
	began := time.Now()
	tick := time.NewTicker(500 * time.Millisecond / groups)
	defer tick.Stop()
	for i := 0; ; i++ {
		part := i % groups
		for k := part; k < len(a.conns); k += groups {
			if _, err := a.conns[k].Write([]byte("x")); err != nil {
				_ = a.conns[k].Close()
				a.conns[k] = nil
				a.ended++
			}
		}
		if err := a.come(); err != nil {
			a.failed = fmt.Errorf("after %v: %w", time.Since(began), err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// groups is in how many groups attackers drip, one after the other.
const groups = 10
