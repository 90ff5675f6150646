package bus

import (
	"context"
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
	bound(t, &keepWithin, 2*time.Second)
	nodes := startCluster(t, 2)
	url := nodes[0].ClientURL()
	g := openGateway(t, url, "a", quick)
	nc := connect(t, url)
	js := jetStreamOn(t, nc)
	replicas := func() int { return copies(t, js, streamOf(bucketName)) }
	eventually(t, "the bucket is there", func() bool { return replicas() > 0 })
	if n := replicas(); n > 1 || g.logged("revocations are kept in one copy") == 0 {
		t.Fatalf("two nodes give %d replicas", n)
	}
	// store succeeds as soon as the copies have a leader.
	store := func(issuedBefore int64) {
		t.Helper()
		request := fmt.Sprintf(`{"user":"alice","issued_before":%d}`, issuedBefore)
		eventually(t, "it is stored", func() bool { return *askAll(t, nc, "revoke", request, 1)["a"].Stored })
	}
	store(1000)

	nodes = append(nodes, startNode(t, 2, nodes[0]))
	eventually(t, "another gateway finds three nodes", func() bool {
		b := newGateway(t, url, "b", quick)
		eventually(t, "b knows the revocations", b.RevocationsLoaded)
		defer b.Close()
		return b.sessions.before("alice") == 1000 && replicas() == 3
	})
	eventually(t, "the new copies have taken over", func() bool { return live(t, js, streamOf(bucketName)) == 3 })
	store(2000)

	for _, s := range nodes[1:] {
		s.Shutdown()
		s.WaitForShutdown()
	}
	// When the machine stands still for as long as NATS is waited for, the order
	// of the answers tells nothing.
	eventually(t, "the next request does not wait", func() bool {
		began := time.Now()
		asked := begin(t, nc, "revoke", `{"user":"bob","issued_before":3000}`)
		g.awaitRevoked(t, "bob", 3000)
		askAll(t, nc, "disconnect", `{"user":"carol"}`, 1)
		waiting, _, err := asked.Pending()
		if err != nil {
			t.Fatal(err)
		}
		if r := replies(t, asked, 1)["a"]; r.Stored == nil || *r.Stored || r.Warning == "" {
			t.Errorf("got %+v", r)
		}
		if took := time.Since(began); took > promptly {
			t.Errorf("the answer took %s", took)
		}
		return waiting == 0
	})
}

// startCluster runs n servers that are one cluster with JetStream.
func startCluster(tb testing.TB, n int) []*server.Server {
	tb.Helper()
	swallowing(tb)
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
		ServerName: fmt.Sprint("node", k), JetStream: true, StoreDir: storeDir(tb),
		Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT},
	}
	// A server alone that expects nobody would be no cluster.
	o.Routes = server.RoutesFromStr("nats://127.0.0.1:1")
	if first != nil {
		o.Routes = server.RoutesFromStr("nats://" + first.ClusterAddr().String())
	}
	return startServer(tb, o)
}

// told is what the leader of a stream says of it, nil while nobody says anything.
func told(tb testing.TB, js jetstream.JetStream, stream string) *jetstream.StreamInfo {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
	defer cancel()
	found, err := js.Stream(ctx, stream)
	if err != nil {
		return nil
	}
	return found.CachedInfo()
}

// copies is how many a stream is to have, 0 while nobody says.
func copies(tb testing.TB, js jetstream.JetStream, stream string) int {
	tb.Helper()
	if info := told(tb, js, stream); info != nil {
		return info.Config.Replicas
	}
	return 0
}

// live is how many copies belong to it and are up to date, the leader's included.
func live(tb testing.TB, js jetstream.JetStream, stream string) int {
	tb.Helper()
	info := told(tb, js, stream)
	if info == nil || info.Cluster == nil || info.Cluster.Leader == "" {
		return 0
	}
	n := 1
	for _, p := range info.Cluster.Replicas {
		if p.Current && !p.Offline {
			n++
		}
	}
	return n
}
