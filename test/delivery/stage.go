package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"pushgate/test/servers"
)

const streamName = "PUSH"

// stage is everything that a run needs: binaries, servers, and a connection of
// its own to NATS.
type stage struct {
	dir      string
	logs     string // where the servers' logs stay, if anywhere
	programs *servers.Binaries
	nodes    []*servers.NATS
	urls     []string // of the nodes
	gateways []*servers.Gateway
	addrs    []string // where the gateways' clients connect

	nc *nats.Conn
	js jetstream.JetStream
}

// built are binaries that several runs of one process share; nil: each run
// builds its own.
var built *servers.Binaries

// newStage builds the binaries, as production has them. Its caller closes it.
func newStage(ctx context.Context) (*stage, error) {
	dir, err := os.MkdirTemp("", "delivery")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, programs: built}
	if built != nil {
		return s, nil
	}
	if s.programs, err = servers.Build(ctx, dir); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close ends everything, gateways first.
func (s *stage) close() {
	if s.nc != nil {
		s.nc.Close()
	}
	for _, p := range s.processes() {
		_ = p.End(os.Kill)
	}
	if s.logs != "" {
		if err := s.keepLogs(); err != nil {
			progress("keeping the logs: %v", err)
		}
	}
	_ = os.RemoveAll(s.dir)
}

// processes are all of them, gateways first.
func (s *stage) processes() (all []*servers.Process) {
	for _, g := range s.gateways {
		all = append(all, &g.Process)
	}
	for _, n := range s.nodes {
		all = append(all, &n.Process)
	}
	return all
}

// keepLogs copies the servers' logs to where they stay.
func (s *stage) keepLogs() error {
	if err := os.MkdirAll(s.logs, 0o750); err != nil {
		return err
	}
	for _, p := range s.processes() {
		b, err := os.ReadFile(p.Log)
		if err == nil {
			err = os.WriteFile(filepath.Join(s.logs, filepath.Base(p.Log)), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startNATS starts one server, or a cluster, and connects to it.
func (s *stage) startNATS(ctx context.Context, nodes int) error {
	var err error
	if nodes == 1 {
		s.nodes = make([]*servers.NATS, 1)
		s.nodes[0], err = s.programs.NewNATS(s.dir, "n1")
	} else {
		s.nodes, err = s.programs.NewCluster(s.dir, nodes)
	}
	if err != nil {
		s.nodes = nil
		return err
	}
	for _, n := range s.nodes {
		s.urls = append(s.urls, n.URL())
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	return s.connect(ctx)
}

// connect waits for JetStream, too: a cluster has to elect a leader first.
func (s *stage) connect(ctx context.Context) error {
	var err error
	s.nc, err = nats.Connect(strings.Join(s.urls, ","), nats.Name("delivery"), nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 0))
	if err != nil {
		return err
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		return err
	}
	return servers.Eventually(ctx, servers.StartWithin, "JetStream answers", func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := s.js.AccountInfo(ctx)
		return err == nil
	})
}

// addGateway starts a gateway that makes the stream where it is missing.
func (s *stage) addGateway(ctx context.Context, settings ...string) error {
	name := fmt.Sprintf("g%d", len(s.gateways)+1)
	g, err := s.programs.NewGateway(s.dir, name, strings.Join(s.urls, ","), append([]string{
		"GATEWAY_ADMIN_DEBUG_LISTEN=", "GATEWAY_DURABLE_STREAM=" + streamName, "GATEWAY_DURABLE_CREATE=true",
	}, settings...)...)
	if err != nil {
		return err
	}
	s.gateways, s.addrs = append(s.gateways, g), append(s.addrs, g.Addr)
	if err := g.Start(ctx); err != nil {
		return err
	}
	return servers.Eventually(ctx, servers.StartWithin, "the gateway has made the stream", func(ctx context.Context) bool {
		_, err := s.info(ctx)
		return err == nil
	})
}

// isReady says of a gateway's address what a load balancer goes by. One that has
// just started, and gets no answer from NATS, takes clients after three seconds
// all the same, and cannot resume them.
func (s *stage) isReady(ctx context.Context, addr string) bool {
	for _, g := range s.gateways {
		if g.Addr == addr {
			return servers.Answers(ctx, "http://"+g.Admin+"/readyz")
		}
	}
	return true // a proxy, which has looked itself
}

// awaitInfo is info, asked for until there is an answer.
func (s *stage) awaitInfo(ctx context.Context) (info *jetstream.StreamInfo, err error) {
	late := servers.Eventually(ctx, servers.StartWithin, "the stream's leader answers", func(ctx context.Context) bool {
		info, err = s.info(ctx)
		return err == nil
	})
	if late != nil {
		return nil, errors.Join(late, err)
	}
	return info, nil
}

// info is what the stream's leader says of it.
func (s *stage) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	stream, err := s.js.Stream(ctx, streamName)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}
