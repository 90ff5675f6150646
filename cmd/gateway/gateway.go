package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pushgate/internal/auth"
	"pushgate/internal/bus"
	"pushgate/internal/poll"
	"pushgate/internal/session"
)

// gateway is one running gateway: the floors, joined.
type gateway struct {
	cfg   *Config
	log   *zap.Logger
	hub   *session.Hub
	bus   *bus.Bus
	admin *admin

	addr     net.Addr // of the public listener
	draining atomic.Bool

	stopKeys chan struct{} // ends keyFiles.watch; nil where there are no files
	watching sync.WaitGroup
}

// newGateway builds and starts a gateway; its caller closes it. level is what
// /log/level sets. page takes the connections of a demo page; nil is none.
func newGateway(cfg *Config, log *zap.Logger, level *zap.AtomicLevel, page func(net.Conn)) (_ *gateway, err error) {
	g := &gateway{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	loops := cfg.Loops
	if loops == 0 {
		loops = runtime.GOMAXPROCS(0)
	}
	// A loop's short system calls hold its processor; others must get theirs.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), loops+1))

	files, keys, err := openKeyFiles(cfg.Auth.PublicKeyFiles)
	if err != nil {
		return nil, &configError{"auth.public_key_files " + err.Error()}
	}
	verifier, err := auth.New(cfg.authOptions(keys))
	if err != nil {
		return nil, &configError{err.Error()}
	}
	if len(cfg.Auth.PublicKeyFiles) > 0 {
		g.stopKeys = make(chan struct{})
		g.watching.Go(func() { files.watch(verifier, log.Named("auth"), g.stopKeys) })
	}
	exact := cfg.NATS.Interest == "exact"
	if exact {
		if err := bus.CheckTemplates(cfg.Subscriptions); err != nil {
			return nil, &configError{err.Error()}
		}
	}
	if g.bus, err = bus.New(bus.Config{
		Options: cfg.busOptions(), Log: log.Named("nats"),
		Prefix: cfg.NATS.Prefix, FlashPrefix: cfg.NATS.FlashPrefix, Exact: exact,
	}); err != nil {
		return nil, &configError{err.Error()}
	}
	if g.hub, err = session.New(g.sessionConfig(verifier, loops, page)); err != nil {
		return nil, err
	}
	listener, err := poll.Listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", cfg.Listen, err)
	}
	g.addr = listener.Addr()
	if err := g.hub.Serve(listener); err != nil {
		return nil, err
	}
	if err := g.bus.Start(g.hub.Deliver); err != nil {
		return nil, err
	}
	if g.admin, err = startAdmin(g, level); err != nil {
		return nil, err
	}
	version, _ := buildVersion()
	log.Info("gateway is up", zap.String("version", version), zap.Stringer("listen", g.addr),
		zap.Stringer("admin", g.admin.addr), zap.Int("loops", loops), zap.Int("sessions_limit", g.sessionLimit()),
		zap.String("interest", cfg.NATS.Interest))
	return g, nil
}

func (g *gateway) sessionConfig(v *auth.Verifier, loops int, page func(net.Conn)) session.Config {
	cfg := g.cfg
	c := session.Config{
		Verifier: v, Log: g.log.Named("session"), Loops: loops, Page: page,
		Subscriptions: cfg.Subscriptions,
		Carriers:      cfg.Auth.Carriers, Origins: cfg.Auth.Origins,
		Sessions: g.sessionLimit(), SessionsPerUser: cfg.Limits.SessionsPerUser,
		HandshakesPerSecond: cfg.Limits.HandshakesPerSecond, HalfOpen: cfg.Limits.HalfOpen,
		TokenBytes: int(cfg.Auth.TokenBytes), EventBytes: int(cfg.Limits.EventBytes),
		OutboxBytes: int(cfg.Limits.OutboxBytes), MessageBytes: int(cfg.Limits.MessageBytes),
		Heartbeat: cfg.Heartbeat,
	}
	// An interface that holds a nil pointer is not nil.
	if in := g.bus.Interest(); in != nil {
		c.Interest = in
	}
	return c
}

const (
	// spareFiles are for what is no session: listeners, NATS, logs, handshakes.
	spareFiles = 200
	// sessionCost is what a quiet session is reckoned to cost, the kernel's
	// 4 KB included.
	sessionCost = 5 << 10
)

// sessionLimit is limits.sessions, or what descriptors and memory allow.
func (g *gateway) sessionLimit() int {
	if n := g.cfg.Limits.Sessions; n > 0 {
		return n
	}
	n := max(poll.MaxFiles()-spareFiles, 16)
	if limit := memoryLimit(); limit > 0 {
		n = min(n, max(int(limit/sessionCost), 16))
	}
	return n
}

// Run serves until ctx ends, then drains: not ready at once, accepting for
// drain.delay, then closing over drain.window. hurry skips what waiting is
// left.
func (g *gateway) Run(ctx context.Context, hurry <-chan struct{}) error {
	select {
	case <-ctx.Done():
	case err := <-g.admin.failed:
		return err
	}
	g.draining.Store(true)
	open := g.hub.Stats().Sessions
	g.log.Info("draining", zap.Int64("sessions", open),
		zap.Duration("delay", g.cfg.Drain.Delay), zap.Duration("window", g.cfg.Drain.Window))
	began := time.Now()
	if g.cfg.Drain.Delay > 0 {
		delay := time.NewTimer(g.cfg.Drain.Delay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-hurry:
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), g.cfg.Drain.Window+drainSlack)
	defer cancel()
	g.hub.Drain(limit, g.cfg.Drain.Window, hurry)
	g.log.Info("drained", zap.Int64("sessions_left", g.hub.Stats().Sessions), zap.Duration("took", time.Since(began)))
	return nil
}

// drainSlack is how long after the window clients may take to answer their
// close frame.
const drainSlack = 6 * time.Second

// Close frees everything at once. Run drains before it.
func (g *gateway) Close() {
	if g.stopKeys != nil {
		close(g.stopKeys)
		g.watching.Wait()
		g.stopKeys = nil
	}
	if g.admin != nil {
		g.admin.close()
	}
	if g.bus != nil {
		g.bus.Close()
	}
	if g.hub != nil {
		g.hub.Close()
	}
}

// ready says why the gateway should get no new clients, nil when it should.
func (g *gateway) ready() error {
	switch {
	case g.draining.Load():
		return errors.New("draining")
	case !g.bus.EverConnected():
		return errors.New("not connected to NATS yet")
	case g.cfg.NATS.ReadyGrace > 0 && g.bus.DownFor() > g.cfg.NATS.ReadyGrace:
		return fmt.Errorf("NATS has been away for %s", g.bus.DownFor().Round(time.Second))
	}
	return nil
}
