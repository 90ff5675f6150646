//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"
)

type mixedCommand struct {
	target
	Sessions   int           `default:"15000" help:"Sessions that get the broadcasts."`
	Broadcasts int           `default:"2" help:"Broadcasts a second."`
	Probes     int           `default:"100" help:"Probe sessions, in a process of their own."`
	Rate       int           `default:"200" help:"Unicasts a second to the probes."`
	Size       int           `default:"256" help:"Bytes of payload."`
	Time       time.Duration `default:"10s" help:"Length of the measurement."`
}

// Run is the command.
func (c *mixedCommand) Run(ctx context.Context) error {
	res, err := c.measure(ctx)
	if err != nil {
		return err
	}
	rows := append(res.Probe.rows(), [2]string{"broadcasts", fmt.Sprintf("%d, the last session had each after p99 %.1f ms; %d lost",
		res.Broadcast.Events, res.Broadcast.P99, res.Broadcast.Lost)})
	return report(fmt.Sprintf("unicast to %d probes, beside %d broadcasts a second to %d", c.Probes, c.Broadcasts, c.Sessions), res, rows)
}

type mixedResult struct {
	Probe     result `json:"probe"`
	Broadcast result `json:"broadcast"`
}

// measure holds the many sessions here and has a child process probe, because
// a client that reads 15,000 frames would be late for the one that counts.
func (c *mixedCommand) measure(ctx context.Context) (*mixedResult, error) {
	f, p, end, err := c.stage(ctx, c.Sessions)
	if err != nil {
		return nil, err
	}
	defer end()

	probe, err := c.probe(ctx)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- probe.Wait() }()
	r := newRun(0, 0)
	f.measure(r)
	defer f.measure(nil)
	began := time.Now()
	events, ended := int64(0), false
	gap := time.NewTicker(time.Second / time.Duration(c.Broadcasts))
	defer gap.Stop()
	for !ended {
		select {
		case err := <-done:
			if err != nil {
				return nil, fmt.Errorf("the probes: %w", err)
			}
			ended = true
		case <-gap.C:
			events++
			b := payload(nil, r.id, uint32(events), time.Now().UnixNano(), c.Size)
			if err := p.publish("broadcast", b); err != nil {
				return nil, fmt.Errorf("publishing: %w", err)
			}
		}
	}
	r.settle(ctx, events*int64(c.Sessions))
	res := &mixedResult{Broadcast: r.result(events, c.Sessions, time.Since(began), 0)}
	res.Broadcast.Sessions, res.Broadcast.Gone = c.Sessions, f.gone.Load()
	out := bytes.TrimSpace(probe.Stdout.(*bytes.Buffer).Bytes())
	if err := json.Unmarshal(out[bytes.LastIndexByte(out, '\n')+1:], &res.Probe); err != nil {
		return nil, fmt.Errorf("the probes said %q", out)
	}
	return res, nil
}

func (c *mixedCommand) probe(ctx context.Context) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "unicast", "--users=p", "--warmup=1s",
		"--addr="+c.Addr, "--nats="+c.NATS, "--protocol="+c.Protocol, "--debug="+c.Debug, fmt.Sprint("--pid=", c.PID),
		fmt.Sprint("--sessions=", c.Probes), fmt.Sprint("--rate=", c.Rate), fmt.Sprint("--size=", c.Size), fmt.Sprint("--time=", c.Time))
	cmd.Env = append(os.Environ(), "GATEWAY_AUTH_HS256_SECRET="+c.Secret)
	cmd.Stdout, cmd.Stderr = new(bytes.Buffer), os.Stderr
	return cmd, cmd.Start()
}
