package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
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
	auth  *auth.Verifier
	hub   *session.Hub
	bus   *bus.Bus
	admin *admin
	level logLevel

	addr     net.Addr // of the public listener
	began    time.Time
	limit    int   // of sessions
	memory   int64 // limit of this process, 0 for none
	draining atomic.Bool

	life     context.Context // of whatever keeps keys up to date
	end      context.CancelFunc
	watching sync.WaitGroup
}

// processors is how many there are for this process, before a gateway asks for
// more.
var processors = runtime.GOMAXPROCS(0)

// newGateway builds and starts a gateway; its caller closes it. level is what
// /log/level sets. page takes the connections of a demo page; nil is none.
func newGateway(cfg *Config, log *zap.Logger, level *zap.AtomicLevel, page func(net.Conn)) (_ *gateway, err error) {
	g := &gateway{cfg: cfg, log: log, level: logLevel{level: level}, began: time.Now(), memory: memoryLimit()}
	g.life, g.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	loops := cmp.Or(cfg.Loops, processors)
	// A loop's short system calls hold its processor; others must get theirs.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), loops+1))

	if err := g.openKeys(); err != nil {
		return nil, err
	}
	busConfig := bus.Config{
		Options: cfg.busOptions(), Log: log.Named("nats"),
		Prefix: cfg.NATS.Prefix, FlashPrefix: cfg.NATS.FlashPrefix, Exact: cfg.NATS.Interest == "exact",
	}
	if d := &cfg.Durable; d.Stream != "" {
		busConfig.Durable = &bus.Durable{
			Stream: d.Stream, RepublishPrefix: d.RepublishPrefix, RingBytes: int64(d.RingBytes), Create: d.Create, MaxAge: d.MaxAge,
		}
	}
	if g.bus, err = bus.New(busConfig); err != nil {
		return nil, &configError{err.Error()}
	}
	sessions, err := g.sessionConfig(loops, page)
	if err != nil {
		return nil, err
	}
	if g.hub, err = session.New(sessions); err != nil {
		return nil, err
	}
	if err := g.serveControl(); err != nil {
		return nil, err
	}
	listener, err := poll.Listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", cfg.Listen, err)
	}
	g.addr = listener.Addr()
	if g.admin, err = startAdmin(g, level); err != nil {
		listener.Close()
		return nil, err
	}
	if err := g.startBus(); err != nil {
		listener.Close()
		return nil, err
	}
	if err := g.hub.Serve(listener); err != nil {
		return nil, err
	}
	g.watchMemory()
	version, _ := buildVersion()
	log.Info("gateway is up", zap.String("version", version), zap.Stringer("listen", g.addr),
		zap.Stringer("admin", g.admin.addr), zap.Int("loops", loops), zap.Int("sessions_limit", g.limit),
		zap.String("interest", cfg.NATS.Interest), zap.Bool("tls", sessions.TLS != nil))
	return g, nil
}

// controlled is what the control service acts on: tokens and sessions.
type controlled struct {
	*session.Hub
	tokens *auth.Verifier
	window time.Duration // of a drain
}

// Rebalance moves sessions as gently as a drain does.
func (c controlled) Rebalance(share float64) (int, error) { return c.Hub.Rebalance(share, c.window) }

// Revoke refuses a user's older tokens first, and then ends their sessions: no
// handshake slips through in between.
func (c controlled) Revoke(user string, issuedBefore int64) int {
	c.tokens.Revoke(user, issuedBefore)
	return c.Hub.Revoke(user, issuedBefore)
}

// serveControl has the bus offer the control service, learn revocations, and
// keep what clients acknowledge.
func (g *gateway) serveControl() error {
	version, _ := buildVersion()
	a, name := &g.cfg.Auth, gatewayName()
	if g.cfg.Durable.Stream != "" {
		// What is older than the stream is no place to resume from.
		if err := g.bus.ServeAcks(name, g.cfg.Durable.MaxAge); err != nil {
			return err
		}
	}
	return g.bus.ServeControl(bus.Control{
		Sessions: controlled{g.hub, g.auth, g.cfg.Drain.Window}, Gateway: name, Version: version,
		Inspected: inspected{g.hub, g, time.Now()}, Presence: g.cfg.Presence,
		// Until no token can be alive that a revocation from now meets.
		RevocationTTL: a.MaxLifetime + 2*a.Leeway + bus.MaxRevokeAhead,
	})
}

// gatewayName tells gateways apart: a pod's name is its host's, but several may
// run on one host.
func gatewayName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "gateway"
	}
	return fmt.Sprintf("%s-%04x", host, rand.IntN(1<<16))
}

// startBus brings events to the hub. Who connects meanwhile waits in the
// listener's queue: a session that stood before its gateway knew the stream
// would have no place in it.
func (g *gateway) startBus() error {
	if err := g.bus.Start(g.hub); err != nil {
		return err
	}
	return g.awaitStart()
}

// startPatience is how long a start waits for NATS to tell what is revoked, and
// what is wrong with the stream. Without an answer it goes on: readiness says why
// it is not ready. Tests that are about it wait longer.
var startPatience = 3 * time.Second

// awaitStart refuses to start with a stream that is not what it must be: every
// event would be silently less than promised. And nobody who was revoked gets in
// while revocations are still being read.
func (g *gateway) awaitStart() error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(startPatience); time.Now().Before(end); <-tick.C {
		if err := g.bus.StreamError(); bus.Misconfigured(err) {
			return err
		}
		if g.bus.StreamReady() && g.bus.RevocationsLoaded() {
			return nil
		}
	}
	return nil
}

// openKeys makes the verifier and has its keys kept up to date.
func (g *gateway) openKeys() error {
	keys, files, err := openKeyFiles(g.cfg.issuers())
	if err != nil {
		return &configError{"a list of public key files " + err.Error()}
	}
	log := g.log.Named("auth")
	o := g.cfg.authOptions(keys)
	o.Notice = func(n auth.KeyNotice) {
		if n.Err != nil {
			log.Error("keys could not be fetched, those from before stay", zap.String("issuer", n.Issuer), zap.Error(n.Err))
			return
		}
		log.Info("keys were fetched", zap.String("issuer", n.Issuer), zap.Int("keys", n.Keys))
	}
	if g.auth, err = auth.New(o); err != nil {
		return &configError{err.Error()}
	}
	for _, f := range files {
		g.watching.Go(func() { f.watch(g.auth, log, g.life.Done()) })
	}
	g.watching.Go(func() { g.auth.FetchKeys(g.life) })
	return nil
}

// pagePaths are those of the demo page and its backend.
var pagePaths = []string{"/", "/console", "/dev/"}

func (g *gateway) sessionConfig(loops int, page func(net.Conn)) (session.Config, error) {
	cfg := g.cfg
	trusted, err := cfg.trustedNetworks()
	if err != nil {
		return session.Config{}, err
	}
	g.limit = g.sessionLimit()
	c := session.Config{
		Verifier: g.auth, Log: g.log.Named("session"), Loops: loops, Page: page, PagePaths: pagePaths,
		Subscriptions: map[string][]string{},
		Carriers:      cfg.Auth.Carriers, CookieName: cfg.Auth.CookieName,
		// Without a list pages of the same host are meant; the demo page is one.
		Origins: cfg.Auth.Origins, SameHost: len(cfg.Auth.Origins) == 0 || page != nil,
		Trusted: trusted, Slow: cfg.slowRules(), OutboxesBytes: cfg.outboxesBytes(),
		ReplaceOldest: cfg.Limits.SessionsPerUserPolicy == policyReplace,
		Sessions:      g.limit, SessionsPerUser: cfg.Limits.SessionsPerUser, SessionsPerAddress: cfg.Limits.PerAddress,
		HandshakesPerSecond: cfg.Limits.HandshakesPerSecond,
		AddressHandshakes:   cfg.Limits.AddressHandshakes, UserHandshakes: cfg.Limits.UserHandshakes,
		HalfOpen: cfg.Limits.HalfOpen, Subjects: cfg.Limits.Subjects,
		TokenBytes: int(cfg.Auth.TokenBytes), EventBytes: int(cfg.Limits.EventBytes),
		OutboxBytes: int(cfg.Limits.OutboxBytes), MessageBytes: int(cfg.Limits.MessageBytes), PollBytes: int(cfg.Limits.PollBytes),
		Heartbeat: cfg.Heartbeat, MaxHeartbeat: cfg.Limits.Heartbeat, Compression: cfg.Compression,
	}
	if cfg.TLS.CertFile != "" {
		certs, err := openCertFiles(cfg.TLS.CertFile, cfg.TLS.KeyFile)
		if err != nil {
			return session.Config{}, &configError{"tls: " + err.Error()}
		}
		c.TLS = certs.config()
		g.watching.Go(func() { certs.watch(g.log.Named("tls"), g.life.Done()) })
	}
	for _, i := range cfg.issuers() {
		for _, s := range i.Subscriptions {
			c.Subscriptions[i.Name] = append(c.Subscriptions[i.Name], auth.Expand(s, i.Name))
		}
	}
	c.Receipt, c.FlightEvents = g.bus.Receipt, cfg.Flight.Events
	if cfg.Presence {
		c.Presence = g.bus
	}
	if d := &cfg.Durable; d.Stream != "" {
		c.History, c.Acks, c.RingBytes, c.RingAge = g.bus, g.bus, g.ringBytes(), d.MaxAge
	}
	// An interface that holds a nil pointer is not nil.
	if in := g.bus.Interest(); in != nil {
		c.Interest = in
	}
	return c, nil
}

const (
	// spareFiles are for what is no session: listeners, NATS, logs, handshakes.
	spareFiles = 200
	// sessionCost is what a quiet session is reckoned to cost, the kernel's
	// 4 KB included.
	sessionCost = 5 << 10
	// tlsCost is what native TLS adds to it.
	tlsCost = 7 << 10
)

// sessionLimit is limits.sessions, or what descriptors and memory allow.
func (g *gateway) sessionLimit() int {
	if n := g.cfg.Limits.Sessions; n > 0 {
		return n
	}
	n := max(poll.MaxFiles()-spareFiles, 16)
	if limit := memoryLimit(); limit > 0 {
		cost := int64(sessionCost)
		if g.cfg.TLS.CertFile != "" {
			cost += tlsCost
		}
		n = min(n, max(int(limit/cost), 16))
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
	g.end()
	g.watching.Wait()
	g.level.stop()
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
	case g.auth.Ready() != nil:
		return g.auth.Ready()
	case !g.bus.EverConnected():
		return errors.New("not connected to NATS yet")
	case g.bus.Refused() != "":
		return fmt.Errorf("NATS does not let this user subscribe to %s", g.bus.Refused())
	case !g.bus.RevocationsLoaded():
		return errors.New("revocations have not been read yet")
	case !g.bus.StreamReady():
		if err := g.bus.StreamError(); err != nil {
			return err
		}
		return errors.New("the stored stream has not been read yet")
	case g.cfg.NATS.ReadyGrace > 0 && g.bus.DownFor() > g.cfg.NATS.ReadyGrace:
		return fmt.Errorf("NATS has been away for %s", g.bus.DownFor().Round(time.Second))
	}
	return nil
}
