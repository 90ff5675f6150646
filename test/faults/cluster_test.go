//go:build linux

package faults

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"pushgate/test/servers"
)

// cluster is three nodes, each with a copy of the stream.
func cluster(t *testing.T, args ...string) (nodes []*servers.NATS, urls string) {
	t.Helper()
	nodes, err := programs.NewCluster(t.TempDir(), 3, args...)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, n := range nodes {
		start(t, &n.Process)
		all = append(all, n.URL())
	}
	return nodes, strings.Join(all, ",")
}

// elected waits until the cluster has somebody who can make a stream: that it
// takes its time is not to count as a gateway's start.
func (b *backend) elected(t *testing.T) {
	t.Helper()
	eventually(t, "the cluster has a leader", func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := b.js.AccountInfo(ctx)
		return err == nil
	})
}

// whole waits until every node has the stream, up to date.
func (b *backend) whole(t *testing.T) {
	t.Helper()
	eventually(t, "every node has the stream", func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		stream, err := b.js.Stream(ctx, streamName)
		if err != nil || stream.CachedInfo().Cluster == nil || len(stream.CachedInfo().Cluster.Replicas) != 2 {
			return false
		}
		return copies(stream.CachedInfo()) == 3
	})
}

// copies is how many are up to date, the leader's included.
func copies(info *jetstream.StreamInfo) (n int) {
	if info.Cluster.Leader != "" {
		n++
	}
	for _, r := range info.Cluster.Replicas {
		if r.Current && !r.Offline {
			n++
		}
	}
	return n
}

// at is the node that the gateway is connected to: the log names its address.
func (g *gateway) at(t *testing.T, nodes []*servers.NATS) int {
	t.Helper()
	at := -1
	for line := range strings.Lines(g.logged(t)) {
		if !strings.Contains(line, "connected to NATS") {
			continue
		}
		for i, n := range nodes {
			if strings.Contains(line, n.Addr) {
				at = i
			}
		}
	}
	if at < 0 {
		t.Fatal("the log does not say where the gateway is connected")
	}
	return at
}

// TestClusterFailover kills the node that the gateway is connected to, twice.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	nodes, urls := cluster(t)
	b := newBackend(t, urls)
	b.elected(t)
	g := startGateway(t, urls, durable...)
	alice := connect(t, g.Addr, "alice")
	b.whole(t)
	for round := range 2 {
		b.store(t, "alice", 20)
		victim, before := nodes[g.at(t, nodes)], g.reconnects(t)
		if err := victim.End(os.Kill); err != nil {
			t.Fatal(err)
		}
		b.store(t, "alice", 20)
		eventually(t, "the gateway is at another node", func(context.Context) bool {
			// The log, which says where it is, is written last.
			return g.reconnects(t) > before && g.metric(t, "pushgate_nats_connected") == 1 && nodes[g.at(t, nodes)] != victim
		})
		alice.has(t, 40*(round+1))
		if err := victim.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.whole(t)
	}
	g.keptAll(t)
}

// TestLameDuck has the gateway's node say that it will leave. The gateway goes
// to another one, and nobody behind it notices.
func TestLameDuck(t *testing.T) {
	t.Parallel()
	nodes, urls := cluster(t)
	b := newBackend(t, urls)
	b.elected(t)
	g := startGateway(t, urls, durable...)
	alice := connect(t, g.Addr, "alice")
	b.whole(t)
	b.store(t, "alice", 20)
	duck := nodes[g.at(t, nodes)]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	left := make(chan error, 1)
	if err := duck.Signal(lameDuck); err != nil {
		t.Fatal(err)
	}
	go func() { left <- duck.Exited(ctx) }()
	for sent := 20; ; {
		b.store(t, "alice", 5)
		sent += 5
		select {
		case err := <-left:
			if err != nil {
				t.Errorf("the node ended with %v", err)
			}
			alice.has(t, sent)
			eventually(t, "the gateway says that it is elsewhere", func(context.Context) bool {
				return nodes[g.at(t, nodes)] != duck
			})
			g.keptAll(t)
			return
		case <-time.After(50 * time.Millisecond):
		}
		if ctx.Err() != nil {
			t.Fatal(fmt.Errorf("the node does not leave: %w", ctx.Err()))
		}
	}
}

// lameDuck is the signal that has nats-server prepare to leave.
const lameDuck = syscall.SIGUSR2
