package bus

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// slowLink stands before a server's cluster port and hands on everything late,
// both ways. So followers lag behind their leader as they do far away from it.
type slowLink struct {
	net.Listener
	delay time.Duration
	ready chan struct{} // closed when target is known

	target string
	mu     sync.Mutex
	conns  []net.Conn
	all    sync.WaitGroup
}

func newSlowLink(tb testing.TB, delay time.Duration) *slowLink {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &slowLink{Listener: l, delay: delay, ready: make(chan struct{})}
	s.all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			<-s.ready
			out, err := net.Dial("tcp", s.target)
			if err != nil {
				_ = in.Close()
				continue
			}
			s.mu.Lock()
			s.conns = append(s.conns, in, out)
			s.mu.Unlock()
			s.pipe(in, out)
			s.pipe(out, in)
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.all.Wait()
	})
	return s
}

type delayed struct {
	data []byte
	due  time.Time
}

// pipe closes both when one ends.
func (s *slowLink) pipe(from, to net.Conn) {
	queue := make(chan delayed, 10_000)
	s.all.Go(func() {
		defer close(queue)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			queue <- delayed{buf[:n], time.Now().Add(s.delay)}
		}
	})
	s.all.Go(func() {
		defer func() { _ = from.Close() }()
		defer func() { _ = to.Close() }()
		for l := range queue {
			<-time.After(time.Until(l.due))
			if _, err := to.Write(l.data); err != nil {
				break
			}
		}
		_ = from.Close()
		for range queue { // so that the reader ends
		}
	})
}

// startSlowCluster runs n servers that are one cluster over slow links.
func startSlowCluster(tb testing.TB, n int, delay time.Duration) []*server.Server {
	tb.Helper()
	swallowing(tb)
	var links []*slowLink
	var routes string
	for range n {
		l := newSlowLink(tb, delay)
		links = append(links, l)
		routes += ",nats://" + l.Addr().String()
	}
	var nodes []*server.Server
	for k, l := range links {
		s := startServer(tb, &server.Options{
			ServerName: fmt.Sprint("node", k), JetStream: true, StoreDir: storeDir(tb), Routes: server.RoutesFromStr(routes[1:]),
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT, Advertise: l.Addr().String()},
		})
		l.target = s.ClusterAddr().String()
		close(l.ready)
		nodes = append(nodes, s)
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
