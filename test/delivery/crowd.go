package main

import (
	"context"
	"errors"
	"sync"

	"pushgate/test/servers"
)

// crowd is the clients of a run.
type crowd struct {
	clients []*client
	running sync.WaitGroup
	stop    context.CancelFunc
}

// newCrowd starts n clients of the gateways and waits until each has its first
// place in the stream. Its caller leaves.
func newCrowd(ctx context.Context, n int, s *stage) (*crowd, error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &crowd{stop: cancel}
	for i := range n {
		t, err := servers.Token(userName(i))
		if err != nil {
			cancel()
			return nil, err
		}
		c := &client{user: userName(i), token: t, addrs: s.addrs, ready: s.isReady}
		d.clients = append(d.clients, c)
		d.running.Go(func() { c.run(ctx) })
	}
	err := servers.Eventually(ctx, servers.StartWithin, "every client has a place in the stream", func(context.Context) bool {
		return d.behind(1) == 0
	})
	if err != nil {
		d.leave()
		return nil, errors.Join(err, errors.New("was the gateway given a stream?"))
	}
	return d, nil
}

// behind is how many have not come to a sequence; any place is one.
func (d *crowd) behind(seq uint64) (n int) {
	for _, c := range d.clients {
		if begin, at := c.place(); begin.Stream == "" || seq > 1 && at.Seq < seq {
			n++
		}
	}
	return n
}

func (d *crowd) leave() {
	d.stop()
	d.running.Wait()
}

// judge adds up what became of all clients.
func (d *crowd) judge(t *truth) (all verdict, seen tally) {
	for _, c := range d.clients {
		c.mu.Lock()
		v := judge(t.wants(c.user, c.begin.Seq), c.log)
		if !v.clean() {
			progress("%s, from %d to %d, %d sessions: %+v", c.user, c.begin.Seq, c.at.Seq, c.seen.Sessions, v)
		}
		all.add(v)
		seen.add(c.seen)
		c.mu.Unlock()
	}
	return all, seen
}
