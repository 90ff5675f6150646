//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"
)

type millionCommand struct {
	Sessions   int           `default:"1000000" help:"Sessions to open, one a user."`
	Gateways   int           `help:"Gateways at least; 0: as many as the descriptor limit asks for."`
	Interest   string        `default:"wildcard" enum:"wildcard,exact" help:"The gateways' nats.interest."`
	Heartbeat  time.Duration `default:"60s" help:"The gateways' heartbeat."`
	Together   int           `default:"4" help:"Processes of clients that open their sessions at a time."`
	Idle       time.Duration `default:"30s" help:"How long nothing is published."`
	Broadcasts int           `default:"5" help:"Events to all, one after the other."`
	Rate       int           `default:"1000" help:"Events a second to random users."`
	Time       time.Duration `default:"20s" help:"How long those go on."`
	Size       int           `default:"256" help:"Bytes of payload."`
	Limit      time.Duration `default:"20m" help:"After this it gives up and cleans up."`
}

// million is gateways behind one NATS server, and processes of clients.
type million struct {
	*millionCommand
	plan     plan
	servers  *servers
	gateways []target
	crews    crews
	result   millionResult
}

// Run is the command.
func (c *millionCommand) Run(ctx context.Context) error {
	here, err := thisMachine()
	if err != nil {
		return err
	}
	m := &million{millionCommand: c, plan: planFor(c.Sessions, c.Gateways, here.files), servers: newServers()}
	if err := check(here.needs(m.plan)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Limit, fmt.Errorf("it is not done after %s", c.Limit))
	defer cancel()
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	defer m.stop()
	if err := m.measure(ctx, b); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
	m.stop()
	return report(fmt.Sprintf("%d sessions on %d gateways, %d processes of clients", c.Sessions, m.plan.gateways, m.result.Crews), &m.result, m.result.rows())
}

func (m *million) measure(ctx context.Context, b *binaries) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"starting gateways", func(ctx context.Context) error { return m.start(ctx, b) }},
		{"opening sessions", m.open},
		{"idle", m.idle},
		{"events to all", m.broadcasts},
		{"events to single users", m.unicasts},
	} {
		progress("== %s", step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return m.look(&m.result.After, false)
}

// start starts NATS and the gateways, and reads what they cost empty.
func (m *million) start(ctx context.Context, b *binaries) error {
	if err := m.servers.startNATS(ctx, b, false); err != nil {
		return err
	}
	for range m.plan.gateways {
		if err := m.servers.addGateway(ctx, b, "GATEWAY_LOOPS=1", "GATEWAY_NATS_INTEREST="+m.Interest,
			"GATEWAY_HEARTBEAT="+m.Heartbeat.String()); err != nil {
			return err
		}
		m.gateways = append(m.gateways, m.servers.target)
	}
	m.result.Sessions, m.result.Gateways = m.Sessions, m.plan.gateways
	return m.look(&m.result.Base, true)
}

// open opens all sessions, some processes of clients at a time.
func (m *million) open(ctx context.Context) error {
	before, err := m.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	type hired struct {
		crew *crew
		n    int
		err  error
	}
	shares := m.shares()
	done := make(chan hired, len(shares))
	var enough atomic.Bool // one has failed: no more are started
	free := make(chan struct{}, max(m.Together, 1))
	for _, s := range shares {
		go func() {
			free <- struct{}{}
			defer func() { <-free }()
			if enough.Load() {
				done <- hired{}
				return
			}
			c, err := m.gateways[s.gateway].startCrew(ctx, s.first, s.n)
			done <- hired{c, s.n, err}
		}()
	}
	var failed error
	opened := 0
	for range shares {
		h := <-done
		if h.crew != nil {
			m.crews = append(m.crews, h.crew)
			opened += h.n
			progress("%d of %d sessions are open after %.0f s", opened, m.Sessions, time.Since(began).Seconds())
		}
		if h.err != nil && failed == nil {
			failed = h.err
			enough.Store(true)
		}
	}
	if failed != nil {
		return failed
	}
	m.result.Crews, m.result.Connect.Seconds = len(m.crews), time.Since(began).Seconds()
	if err := m.used(before, &m.result.Connect.CPU); err != nil {
		return err
	}
	if err := m.look(&m.result.AsIs, false); err != nil {
		return err
	}
	return m.look(&m.result.Held, true)
}

// crewShare is the sessions of one process of clients.
type crewShare struct{ gateway, first, n int }

func (m *million) shares() (all []crewShare) {
	for i := range m.plan.gateways {
		first, n := m.plan.share(i)
		for n > 0 {
			some := min(n, m.plan.crew)
			all = append(all, crewShare{i, first, some})
			first, n = first+some, n-some
		}
	}
	return all
}

// idle lets heartbeats be all that happens.
func (m *million) idle(ctx context.Context) error {
	before, err := m.cpu()
	if err != nil {
		return err
	}
	select {
	case <-time.After(m.Idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	m.result.Idle.Seconds = m.Idle.Seconds()
	return m.used(before, &m.result.Idle.CPU)
}

// broadcasts publishes events to all: the next when the last session has one.
func (m *million) broadcasts(ctx context.Context) error {
	p, err := m.servers.target.publisher()
	if err != nil {
		return err
	}
	defer p.close()
	phase := &m.result.Broadcast
	before, err := m.cpu()
	if err != nil {
		return err
	}
	for range m.Broadcasts {
		r := newRun(0, 0)
		if _, _, err := m.crews.order(fmt.Sprint("measure ", r.id)); err != nil {
			return err
		}
		sent := time.Now()
		if err := p.publish("broadcast", payload(nil, r.id, 1, sent.UnixNano(), m.Size)); err != nil {
			return err
		}
		sum, gone, err := m.crews.settle(ctx, int64(m.Sessions))
		if err != nil {
			return err
		}
		phase.ToLast = append(phase.ToLast, float64(sum.last-sent.UnixNano())/1e9)
		phase.Seconds += phase.ToLast[len(phase.ToLast)-1]
		phase.add(sum, int64(m.Sessions), gone)
		progress("%d of %d sessions have it, the last after %.2f s", sum.arrived, m.Sessions, phase.ToLast[len(phase.ToLast)-1])
	}
	phase.finish()
	return m.used(before, &phase.CPU)
}

// unicasts publishes to random users at a steady rate.
func (m *million) unicasts(ctx context.Context) error {
	p, err := m.servers.target.publisher()
	if err != nil {
		return err
	}
	defer p.close()
	r := newRun(0, 0)
	if _, _, err := m.crews.order(fmt.Sprint("measure ", r.id)); err != nil {
		return err
	}
	before, err := m.cpu()
	if err != nil {
		return err
	}
	var buf []byte
	sent := make([]uint32, m.Sessions)
	began := time.Now()
	n, err := metronome(m.Rate, m.Time, func(_ int, due time.Time) error {
		user := rand.IntN(m.Sessions)
		sent[user]++
		buf = payload(buf[:0], r.id, sent[user], due.UnixNano(), m.Size)
		if err := p.publish("user."+m.servers.target.userName(user), buf); err != nil {
			return err
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	phase := &m.result.Unicast
	phase.Seconds = time.Since(began).Seconds()
	if err := m.used(before, &phase.CPU); err != nil {
		return err
	}
	sum, gone, err := m.crews.settle(ctx, int64(n))
	if err != nil {
		return err
	}
	phase.add(sum, int64(n), gone)
	phase.finish()
	return nil
}

// stop ends the clients, the gateways and NATS, as far as they run.
func (m *million) stop() {
	if len(m.servers.processes) == 0 {
		return
	}
	progress("== cleaning up")
	m.crews.dismiss()
	for _, p := range m.servers.processes[1:] {
		_ = p.Process.Signal(syscall.SIGTERM) // all at once; stop waits for each
	}
	m.servers.stop()
	m.crews, m.servers.processes = nil, nil
}

var errNoSessions = errors.New("--sessions must be at least one for each gateway")

// Validate is called before Run.
func (c *millionCommand) Validate() error {
	if c.Sessions < max(c.Gateways, 1) {
		return errNoSessions
	}
	return nil
}
