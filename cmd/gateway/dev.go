//go:build !nodev

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// runDev is the dev command: a gateway with an embedded NATS server, a secret
// of its own and a demo page, until ctx ends. secret is the one that it may print:
// empty where the user brought one.
func runDev(ctx context.Context, hurry <-chan struct{}, cfg *Config, secret string, out io.Writer) error {
	level := zap.NewAtomicLevel()
	log := newLog(cfg, &level, os.Stderr, true)
	defer func() { _ = log.Sync() }()

	ns, err := startNATS(cfg)
	if err != nil {
		return err
	}
	defer ns.close()
	cfg.NATS.URL = ns.ClientURL()

	page, err := newPage(cfg)
	if err != nil {
		return err
	}
	defer page.close()
	for first := true; ; first = false {
		g, err := newGateway(cfg, log, &level, page.take)
		if err != nil {
			return err
		}
		page.gateway.Store(g) // before anybody is told where the page is
		if first {
			cfg.keep(g)
			if err := greet(out, cfg, secret, g); err != nil {
				g.Close()
				return err
			}
		}
		if again, err := page.live(ctx, hurry, g); err != nil || !again {
			return err
		}
	}
}

// keep has a gateway that is started again be where the first one is.
func (c *Config) keep(g *gateway) {
	c.Listen, c.Admin.Listen = g.addr.String(), g.admin.addr.String()
	if g.admin.debug != nil {
		c.Admin.DebugListen = g.admin.debug.String()
	}
}

// embedded is a NATS server in this process, and the folder that it owns.
type embedded struct {
	*server.Server
	remove string // folder to remove at the end, or empty
}

func startNATS(cfg *Config) (*embedded, error) {
	host, text, err := net.SplitHostPort(cfg.Dev.NATSListen)
	if err != nil {
		return nil, &configError{fmt.Sprintf("dev.nats_listen %q: %v", cfg.Dev.NATSListen, err)}
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, &configError{fmt.Sprintf("dev.nats_listen %q: the port is not a number", cfg.Dev.NATSListen)}
	}
	// The server says only later, and not plainly, that a port is taken.
	probe, err := net.Listen("tcp", cfg.Dev.NATSListen)
	if err != nil {
		return nil, fmt.Errorf("dev.nats_listen %s: %w (is another NATS server running? choose another address with --dev.nats_listen)", cfg.Dev.NATSListen, err)
	}
	_ = probe.Close()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	ns := &embedded{}
	dir := cfg.Dev.StoreDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "pushgate-dev-"); err != nil {
			return nil, err
		}
		ns.remove = dir
	} else if err := usable(dir); err != nil {
		return nil, configErrorf("dev.store_dir %q cannot be used: %v", dir, pathless(err))
	}
	ns.Server, err = server.NewServer(&server.Options{
		ServerName: "pushgate-dev", Host: host, Port: port,
		JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		ns.removeDir()
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	ns.Start()
	if !ns.ReadyForConnections(30 * time.Second) {
		ns.close()
		return nil, fmt.Errorf("embedded NATS server: it does not start on %s", cfg.Dev.NATSListen)
	}
	return ns, nil
}

// usable makes a folder where it is missing, and tries to write there: the
// server would only wait for itself in vain.
func usable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".pushgate-")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func (ns *embedded) close() {
	ns.Shutdown()
	ns.WaitForShutdown()
	ns.removeDir()
}

func (ns *embedded) removeDir() {
	if ns.remove != "" {
		_ = os.RemoveAll(ns.remove)
	}
}

// greet prints what a new user needs: the page, a token, and lines to paste.
func greet(out io.Writer, cfg *Config, secret string, g *gateway) error {
	token, err := devToken(cfg, "alice", devTokenTTL(cfg))
	if err != nil {
		// Its keys are somebody else's, and so are its tokens.
		token = "TOKEN"
	}
	subject := cfg.NATS.Prefix + ".user.alice"
	if id, err := g.auth.Verify(token); err == nil && len(id.Subjects) > 0 {
		subject = cfg.NATS.Prefix + "." + id.Subjects[0]
	}
	self := commandName()
	tail := self + " tail"
	if g.addr.String() != "127.0.0.1:8080" {
		tail += " --url " + cfg.scheme("ws") + "://" + g.addr.String() + "/v1/ws"
	}
	pub, natsPub := self+" pub", "nats pub"
	if url := cfg.NATS.URL; url != "nats://127.0.0.1:4222" {
		pub += " --nats.url " + url
		natsPub += " -s " + url
	}
	if cfg.NATS.Prefix != "push" {
		pub += " --nats.prefix " + cfg.NATS.Prefix // or it would warn of a root that is none
	}
	_, err = fmt.Fprintf(out, `Pushgate is ready, for development.

  page     %s://%s/
  NATS     %s
  metrics  http://%s/metrics
  status   http://%s/

  token for user alice:
    %s

  receive, in a second terminal:
    %s --token %s

  publish, in a third:
    %s %s '{"hello":"world"}'
    %s %s '{"hello":"world"}'

`, cfg.scheme("http"), g.addr, cfg.NATS.URL, g.admin.addr, g.admin.addr, token, tail, token, pub, subject, natsPub, subject)
	if err != nil || secret == "" {
		return err
	}
	_, err = fmt.Fprintf(out, `  a token for somebody else:
    %s token --sub bob --auth.hs256_secret %s

`, self, secret)
	return err
}

// devToken is a token of the first issuer whose secret is known, with which
// its user may subscribe to the subjects given.
func devToken(cfg *Config, sub string, ttl time.Duration, subscribe ...string) (string, error) {
	all := cfg.issuers()
	issuer := &all[0]
	for i := range all {
		if all[i].HS256Secret != "" {
			issuer = &all[i]
			break
		}
	}
	claims := tokenClaims(issuer, sub, time.Now(), ttl)
	if len(subscribe) > 0 {
		claims["subscribe"] = subscribe
	}
	return mintToken(issuer, claims)
}

// devTokenTTL is the day, or as long as tokens may last.
func devTokenTTL(cfg *Config) time.Duration { return min(cfg.Auth.MaxLifetime, 24*time.Hour) }

// commandName is how this program was most likely called.
func commandName() string {
	name := os.Args[0]
	if strings.Contains(filepath.ToSlash(name), "/go-build") {
		return "go run ./cmd/gateway"
	}
	return name
}
