//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

type idleCommand struct {
	target
	Low  int `default:"5000" help:"Sessions at the first reading."`
	High int `default:"15000" help:"Sessions at the second reading."`
	Warm int `default:"1" help:"Rounds of --high sessions before, which come and go."`
}

type idleResult struct {
	Low        int     `json:"low"`
	High       int     `json:"high"`
	Cold       float64 `json:"cold_bytes_each"`
	User       float64 `json:"user_bytes_each"`
	Anonymous  float64 `json:"anonymous_bytes_each"`
	Kernel     float64 `json:"kernel_slab_bytes_each"`
	Base       int64   `json:"rss_at_low"`
	Goroutines int     `json:"goroutines_added"`
}

// Run is the command. Without --pid it starts a gateway.
func (c *idleCommand) Run(ctx context.Context) error {
	if c.PID == 0 {
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
		s.target.Protocol, s.target.Users = c.Protocol, c.Users
		c.target = s.target
	}
	res, err := c.measure(ctx)
	if err != nil {
		return err
	}
	return report(fmt.Sprintf("idle, slope between %d and %d sessions", c.Low, c.High), res, [][2]string{
		{"user space", fmt.Sprintf("%.0f B a session (anonymous %.0f B; RSS is %.1f MiB at %d)", res.User, res.Anonymous, float64(res.Base)/(1<<20), c.Low)},
		{"before any warm-up", fmt.Sprintf("%.0f B a session", res.Cold)},
		{"kernel slab, both ends", fmt.Sprintf("%.0f B a session", res.Kernel)},
		{"goroutines added", fmt.Sprint(res.Goroutines)},
	})
}

// measure takes the slope of the server's memory between two numbers of
// sessions: what a process costs by itself drops out. A collection is forced
// before each reading, and sessions came and went before, so that it is not
// the collector's pacing that is measured.
func (c *idleCommand) measure(ctx context.Context) (*idleResult, error) {
	if c.High <= c.Low {
		return nil, errors.New("--high must be more than --low")
	}
	res := &idleResult{Low: c.Low, High: c.High}
	for round := range c.Warm + 1 {
		low, high, added, err := c.round(ctx)
		if err != nil {
			return nil, err
		}
		n := float64(c.High - c.Low)
		res.User, res.Anonymous = float64(high.RSS-low.RSS)/n, float64(high.Anonymous-low.Anonymous)/n
		res.Kernel, res.Base, res.Goroutines = float64(high.Slab-low.Slab)/n, low.RSS, added
		if round == 0 {
			res.Cold = res.User
		}
	}
	return res, nil
}

// round opens the sessions, reads twice, and closes them.
func (c *idleCommand) round(ctx context.Context) (low, high memory, goroutines int, err error) {
	before := c.goroutines()
	first, err := c.hold(ctx, 0, c.Low)
	if err != nil {
		return low, high, 0, err
	}
	defer first.close()
	if low, err = c.memory(); err != nil {
		return low, high, 0, err
	}
	second, err := c.hold(ctx, c.Low, c.High-c.Low)
	if err != nil {
		return low, high, 0, err
	}
	defer second.close()
	if high, err = c.memory(); err != nil {
		return low, high, 0, err
	}
	goroutines = c.goroutines() - before
	if n := first.dropped() + second.dropped(); n > 0 {
		return low, high, 0, fmt.Errorf("the server dropped %d sessions", n)
	}
	return low, high, goroutines, nil
}

// held is sessions that are held by this process and others.
type held struct {
	target   *target
	files    int // of the server, before
	fleet    *fleet
	crowd    *crowd // instead of all else, over TLS
	children []*exec.Cmd
	inputs   []io.Closer
}

// hold opens n sessions, in child processes where one would run out of files.
func (t *target) hold(ctx context.Context, first, n int) (*held, error) {
	h := &held{target: t, files: t.files()}
	if t.tls != nil {
		c, err := t.dialTLS(ctx, first, n)
		if err != nil {
			return nil, err
		}
		h.crowd = c
		return h, nil
	}
	if n <= maxClients/2 {
		f, err := t.dial(ctx, first, n)
		if err != nil {
			return nil, err
		}
		h.fleet = f
		return h, nil
	}
	for n > 0 {
		some := min(n, maxClients)
		if err := h.child(ctx, t, first, some); err != nil {
			h.close()
			return nil, err
		}
		first, n = first+some, n-some
	}
	return h, nil
}

func (h *held) child(ctx context.Context, t *target, first, n int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "hold", "--addr="+t.Addr, "--users="+t.Users, "--protocol="+t.Protocol,
		fmt.Sprint("--first=", first), fmt.Sprint("--sessions=", n))
	cmd.Env = append(os.Environ(), "GATEWAY_AUTH_HS256_SECRET="+t.Secret)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	h.children, h.inputs = append(h.children, cmd), append(h.inputs, in)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		return errors.New("a process that was to hold sessions failed")
	}
	return nil
}

// dropped is how many sessions the server has ended, of those that are held by
// this process.
func (h *held) dropped() int64 {
	switch {
	case h.crowd != nil:
		return h.crowd.gone.Load()
	case h.fleet != nil:
		return h.fleet.gone.Load()
	}
	return 0
}

// close ends all the sessions and waits for the server to see it.
func (h *held) close() {
	if h.crowd != nil {
		h.crowd.close()
	}
	if h.fleet != nil {
		h.fleet.close()
	}
	for i, child := range h.children {
		_ = h.inputs[i].Close()
		_ = child.Wait()
	}
	h.target.awaitFiles(h.files)
}

type holdCommand struct {
	target
	First    int `help:"Number of the first user."`
	Sessions int `help:"Sessions to hold."`
}

// Run is the command: it says "ready" and holds until standard input ends.
func (c *holdCommand) Run(ctx context.Context) error {
	f, err := c.dial(ctx, c.First, c.Sessions)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := fmt.Println("ready"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
