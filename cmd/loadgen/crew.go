//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// crewCommand is sessions in a process of their own that also account what
// they get: a process cannot have files for all of a large fleet.
type crewCommand struct {
	target
	First    int `help:"Number of the first user."`
	Sessions int `help:"Sessions to hold."`
}

// crewReport is what a crew has got of the run that it measures.
type crewReport struct {
	Arrived int64         `json:"arrived"`
	Twice   int64         `json:"twice"`
	Late    int64         `json:"late"`
	Gone    int64         `json:"gone"`
	Last    int64         `json:"last"` // when the newest came
	Latency map[int]int64 `json:"latency"`
}

// Run is the command: it says "ready", then answers a line for each line of
// standard input, until that ends. "measure 7" has it account run 7 from now
// on, "report" asks for what has come of it.
func (c *crewCommand) Run(ctx context.Context) error {
	f, err := c.dial(ctx, c.First, c.Sessions)
	if err != nil {
		fmt.Printf("failed: %v\n", err)
		return err
	}
	defer f.close()
	fmt.Println("ready")
	return f.obey(os.Stdin, os.Stdout)
}

func (f *fleet) obey(orders io.Reader, answers io.Writer) error {
	r := newRun(0, 0)
	out := json.NewEncoder(answers)
	lines := bufio.NewScanner(orders)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "measure":
			r = newRun(0, 0)
			if _, err := fmt.Sscan(rest, &r.id); err != nil {
				return fmt.Errorf("an order that is none: %q", lines.Text())
			}
			f.measure(r)
		case "report":
		default:
			return fmt.Errorf("an order that is none: %q", lines.Text())
		}
		if err := out.Encode(r.report(f.gone.Load())); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (r *run) report(gone int64) crewReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return crewReport{Arrived: r.arrived, Twice: r.twice, Late: r.late, Gone: gone, Last: r.last, Latency: r.latency.sparse()}
}

// crew is such a process, from the side that gives the orders.
type crew struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startCrew starts a process and returns when its sessions stand. Its caller
// dismisses it; when ctx ends, it dismisses itself.
func (t *target) startCrew(ctx context.Context, first, n int) (*crew, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "crew", "--addr="+t.Addr, "--users="+t.Users,
		fmt.Sprint("--first=", first), fmt.Sprint("--sessions=", n))
	cmd.Env = append(os.Environ(), "GATEWAY_AUTH_HS256_SECRET="+t.Secret, "GOMAXPROCS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Cancel = func() error { _ = in.Close(); return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &crew{cmd, in, bufio.NewReader(out)}
	line, err := c.out.ReadString('\n')
	if line = strings.TrimSpace(line); line != "ready" {
		c.dismiss()
		return nil, fmt.Errorf("sessions %d to %d: %w", first, first+n-1, errors.Join(err, errors.New(line)))
	}
	return c, nil
}

// order has the crew do something and returns what it has got.
func (c *crew) order(order string) (*crewReport, error) {
	if _, err := io.WriteString(c.in, order+"\n"); err != nil {
		return nil, fmt.Errorf("a process that holds sessions has ended: %w", err)
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("a process that holds sessions has ended: %w", err)
	}
	report := new(crewReport)
	return report, json.Unmarshal(line, report)
}

// dismiss ends the sessions and waits for the process.
func (c *crew) dismiss() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// crews are all of them.
type crews []*crew

// order has all do something and adds up what they have got.
func (all crews) order(order string) (*run, int64, error) {
	sum, gone := newRun(0, 0), int64(0)
	for _, c := range all {
		r, err := c.order(order)
		if err != nil {
			return nil, 0, err
		}
		sum.arrived, sum.twice, sum.late = sum.arrived+r.Arrived, sum.twice+r.Twice, sum.late+r.Late
		sum.last = max(sum.last, r.Last)
		sum.latency.addAll(r.Latency)
		gone += r.Gone
	}
	return sum, gone, nil
}

// settle asks until so much has arrived, or nothing does for a while.
func (all crews) settle(ctx context.Context, want int64) (*run, int64, error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	before, since := int64(-1), time.Now()
	for {
		sum, gone, err := all.order("report")
		if err != nil {
			return nil, 0, err
		}
		if sum.arrived != before {
			before, since = sum.arrived, time.Now()
		}
		if sum.arrived >= want || time.Since(since) > quietFor {
			return sum, gone, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// quietFor is how long nothing may arrive before what has not come is lost.
const quietFor = 15 * time.Second

func (all crews) dismiss() {
	var ending sync.WaitGroup
	for _, c := range all {
		ending.Go(c.dismiss)
	}
	ending.Wait()
}
