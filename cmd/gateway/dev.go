//go:build !nodev

package main

import (
	"context"
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
// of its own and a demo page, until ctx ends.
func runDev(ctx context.Context, hurry <-chan struct{}, cfg *Config, out io.Writer) error {
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
	g, err := newGateway(cfg, log, &level, page.take)
	if err != nil {
		return err
	}
	defer g.Close()
	if err := greet(out, cfg, g); err != nil {
		return err
	}
	return g.Run(ctx, hurry)
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
	if !ns.ReadyForConnections(10 * time.Second) {
		ns.close()
		return nil, fmt.Errorf("embedded NATS server: it does not start on %s", cfg.Dev.NATSListen)
	}
	return ns, nil
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
func greet(out io.Writer, cfg *Config, g *gateway) error {
	token, err := devToken(cfg, "alice")
	if err != nil {
		return err
	}
	self := commandName()
	tail := self + " tail"
	if g.addr.String() != "127.0.0.1:8080" {
		tail += " --url ws://" + g.addr.String() + "/v1/ws"
	}
	pub, natsPub := self+" pub", "nats pub"
	if url := cfg.NATS.URL; url != "nats://127.0.0.1:4222" {
		pub += " --nats.url " + url
		natsPub += " -s " + url
	}
	_, err = fmt.Fprintf(out, `Pushgate is ready, for development.

  page     http://%s/
  NATS     %s
  metrics  http://%s/metrics

  token for user alice:
    %s

  receive, in a second terminal:
    %s --token %s

  publish, in a third:
    %s push.user.alice '{"hello":"world"}'
    %s push.user.alice '{"hello":"world"}'

  a token for somebody else:
    %s token --sub bob --auth.hs256_secret %s

`, g.addr, cfg.NATS.URL, g.admin.addr, token, tail, token, pub, natsPub, self, cfg.Auth.HS256Secret)
	return err
}

// devToken is a token that lasts the day, or as long as tokens may.
func devToken(cfg *Config, sub string) (string, error) {
	return mintToken(cfg, tokenClaims(cfg, sub, time.Now(), min(cfg.Auth.MaxLifetime, 24*time.Hour)))
}

// commandName is how this program was most likely called.
func commandName() string {
	name := os.Args[0]
	if strings.Contains(filepath.ToSlash(name), "/go-build") {
		return "go run ./cmd/gateway"
	}
	return name
}
