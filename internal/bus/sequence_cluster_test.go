package bus

import (
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The stream's leader dies under load: it may have stored what it did not
// republish, and who is connected to it misses what comes meanwhile. Every
// acknowledged event comes all the same.
func TestStreamLeaderDies(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	nodes := startCluster(t, 3)
	var url string
	for _, s := range nodes {
		url += s.ClientURL() + ","
	}
	url = url[:len(url)-1]
	id := stateOf(makeStream(t, url, 3)).ID
	gateways := make(map[*server.Server]durable)
	var proxies []*proxy
	for _, s := range nodes {
		p := startProxy(t, s.Addr().String())
		proxies = append(proxies, p)
		gateways[s] = openDurable(t, p.url(), nil, nil)
		gateways[s].awaitReady(t)
	}
	// republish stops or starts it as gateways see it.
	missed := make([]atomic.Int64, len(proxies))
	republish := func(on bool) {
		for k, p := range proxies {
			p.drop(func(subject string) bool {
				gone := !on && strings.HasPrefix(subject, "pushed.")
				if gone {
					missed[k].Add(1)
				}
				return gone
			})
		}
	}

	nc, err := nats.Connect(url, nats.Timeout(10*time.Second), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(64), jetstream.WithPublishAsyncTimeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var futures []jetstream.PubAckFuture
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := range 2000 {
		<-tick.C
		switch i {
		case 500: // a leader that ends in order leaves nothing behind
			republish(false)
		case 700:
			for k := range missed {
				eventually(t, "every gateway has missed something", func() bool { return missed[k].Load() > 0 })
			}
			go streamLeader(t, nodes).Shutdown()
		case 710:
			republish(true)
		}
		// One that is not stored is the publisher's matter.
		if f, err := js.PublishAsync("push.user.alice", []byte("x")); err == nil {
			futures = append(futures, f)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		t.Fatal("publishing does not end")
	}
	var last uint64
	stored := make(map[uint64]bool)
	for _, f := range futures {
		select {
		case ack := <-f.Ok():
			stored[ack.Sequence] = true
			last = max(last, ack.Sequence)
		case err := <-f.Err():
			t.Log(err) // the publisher knows
		}
	}
	if len(stored) < 1000 {
		t.Fatalf("only %d events were stored", len(stored))
	}
	for s, d := range gateways {
		d.awaitSeq(t, last)
		events := d.stored()
		checkRow(t, events, id, 1, uint64(len(events)))
		st := d.Stats().Stream
		if len(d.losses()) != 0 || len(d.positions()) != 1 || st.Repaired == 0 {
			t.Errorf("a gateway at %s has %+v", s.Name(), st)
		}
		missing := maps.Clone(stored)
		for _, e := range events {
			delete(missing, e.Seq)
		}
		if len(missing) != 0 {
			t.Errorf("%d acknowledged events are missing", len(missing))
		}
	}
}
