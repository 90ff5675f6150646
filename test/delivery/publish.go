package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"pushgate/test/servers"
)

const (
	publishers     = 64
	publishWithin  = 2 * time.Second
	broadcastEvery = 100 // events
	publishBytes   = 100
)

// publisher publishes at a steady rate, each event again and again under the
// same id until JetStream has acknowledged it.
type publisher struct {
	js    jetstream.JetStream
	rate  int
	users int

	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	acked  []event
	again  int // attempts that led to no acknowledgement
	broken int // events that were given up
}

// publish begins; its caller ends it.
func (s *stage) publish(ctx context.Context, rate, users int) *publisher {
	p := &publisher{js: s.js, rate: rate, users: users}
	feeding, stop := context.WithCancel(ctx)
	p.stop = stop
	numbers := make(chan uint64)
	p.done.Go(func() { p.feed(feeding, numbers) })
	for range publishers {
		p.done.Go(func() {
			for n := range numbers {
				p.one(ctx, n)
			}
		})
	}
	return p
}

// feed gives out numbers at the rate. Where publishing cannot keep up for
// more than a second, it does not try to make up for it.
func (p *publisher) feed(ctx context.Context, numbers chan<- uint64) {
	defer close(numbers)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began, gap := time.Now(), time.Second/time.Duration(p.rate)
	for n := uint64(1); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if late := time.Since(began) - time.Duration(n)*gap; late > time.Second {
			began = began.Add(late)
		}
		for ; time.Duration(n)*gap <= time.Since(began); n++ {
			select {
			case numbers <- n:
			case <-ctx.Done():
				return
			}
		}
	}
}

// one publishes one event until it is acknowledged.
func (p *publisher) one(ctx context.Context, n uint64) {
	subject := "push.broadcast"
	if n%broadcastEvery != 0 {
		subject = "push.user." + userName(rand.IntN(p.users))
	}
	for {
		ack, err := publishOne(ctx, p.js, subject, n, publishBytes)
		p.mu.Lock()
		switch {
		case err == nil:
			p.acked = append(p.acked, event{ack, n})
		case ctx.Err() != nil:
			p.broken++
		default:
			p.again++
		}
		p.mu.Unlock()
		if err == nil || servers.Pause(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond)) != nil {
			return
		}
	}
}

// publishOne publishes an event once and returns its place.
func publishOne(ctx context.Context, js jetstream.JetStream, subject string, n uint64, size int) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	data, err := json.Marshal(payload{N: n, Pad: strings.Repeat("x", size)})
	if err != nil {
		return 0, err
	}
	m := &nats.Msg{Subject: subject, Data: data}
	ack, err := js.PublishMsg(ctx, m, jetstream.WithMsgID(fmt.Sprint("d-", n)), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// store publishes an event until the stream has it. Its id keeps it from being
// there twice.
func (s *stage) store(ctx context.Context, subject string, n uint64, size int) error {
	for {
		_, err := publishOne(ctx, s.js, subject, n, size)
		if err == nil || servers.Pause(ctx, 50*time.Millisecond) != nil {
			return err
		}
	}
}

// end stops, after what is under way is acknowledged.
func (p *publisher) end() {
	p.stop()
	p.done.Wait()
}

// count is how many are acknowledged so far.
func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acked)
}

// missing is how many acknowledged events the stream does not have where it
// said.
func (p *publisher) missing(t *truth) (n int) {
	for _, e := range p.acked {
		if t.bySeq[e.seq] != e.n {
			n++
		}
	}
	return n
}
