package bus

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// While NATS cannot store, a revocation ends sessions at once all the same, the
// answer comes in time, and other requests do not wait for it.
func TestClusterAndLostQuorum(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	nodes := startCluster(t, 2)
	url := nodes[0].ClientURL()
	g := openGateway(t, url, "a", quick)
	replicas := func() int {
		js, err := jetstream.New(connect(t, url))
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), streamOf(bucketName))
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().Config.Replicas
	}
	if n := replicas(); n != 1 || g.logged("revocations are kept in one copy") != 1 {
		t.Fatalf("two nodes give %d replicas", n)
	}
	revoke(t, url, "alice", 1000, 1)

	nodes = append(nodes, startNode(t, 2, nodes[0]))
	eventually(t, "another gateway finds three nodes", func() bool {
		b := newGateway(t, url, "b", quick)
		eventually(t, "b knows the revocations", b.RevocationsLoaded)
		defer b.Close()
		return b.sessions.before("alice") == 1000 && replicas() == 3
	})
	nc := connect(t, url)
	eventually(t, "the new copies have taken over", func() bool {
		r := askAll(t, nc, "revoke", `{"user":"alice","issued_before":2000}`, 1)["a"]
		return *r.Stored
	})

	for _, s := range nodes[1:] {
		s.Shutdown()
		s.WaitForShutdown()
	}
	began := time.Now()
	asked := begin(t, nc, "revoke", `{"user":"bob","issued_before":3000}`)
	g.awaitRevoked(t, "bob", 3000)
	askAll(t, nc, "disconnect", `{"user":"carol"}`, 1)
	if took := time.Since(began); took >= keepWithin {
		t.Errorf("the next request waited %s", took)
	}
	if r := replies(t, asked, 1)["a"]; r.Stored == nil || *r.Stored || r.Warning == "" {
		t.Errorf("got %+v", r)
	}
	if took := time.Since(began); took > keepWithin+time.Second {
		t.Errorf("the answer took %s", took)
	}
}

// startCluster runs n servers that are one cluster with JetStream.
func startCluster(tb testing.TB, n int) []*server.Server {
	tb.Helper()
	nodes := []*server.Server{startNode(tb, 0, nil)}
	for k := 1; k < n; k++ {
		nodes = append(nodes, startNode(tb, k, nodes[0]))
	}
	eventually(tb, "the cluster has a leader that sees everybody", func() bool {
		for _, s := range nodes {
			if s.JetStreamIsLeader() {
				return len(s.JetStreamClusterPeers()) == n
			}
		}
		return false
	})
	return nodes
}

// startNode runs a server of the cluster. first is nil for the first.
func startNode(tb testing.TB, k int, first *server.Server) *server.Server {
	tb.Helper()
	o := &server.Options{
		ServerName: fmt.Sprint("node", k), JetStream: true, StoreDir: tb.TempDir(),
		Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT},
	}
	// A server alone that expects nobody would be no cluster.
	o.Routes = server.RoutesFromStr("nats://127.0.0.1:1")
	if first != nil {
		o.Routes = server.RoutesFromStr("nats://" + first.ClusterAddr().String())
	}
	return startServer(tb, o)
}
