package bus

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"pushgate/api"
)

// Interest keeps one NATS subscription a root for each subject that some
// session wants. One goroutine applies what was asked for meanwhile, so that
// the sessions of a storm share one round trip to the server.
type Interest struct {
	b      *Bus
	signal chan struct{} // of one
	quit   chan struct{}
	done   chan struct{}
	held   atomic.Int64

	mu    sync.Mutex
	asked []ask

	// Only the goroutine's own.
	wants map[string]*want
}

// ask is one request: to acquire, with ready, or to release.
type ask struct {
	subjects []string
	ready    func()
}

type want struct {
	sessions int
	subs     []*nats.Subscription
}

func newInterest(b *Bus) *Interest {
	return &Interest{
		b: b, signal: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		wants: make(map[string]*want),
	}
}

// Acquire notes one more session for each subject and calls ready, once, when
// NATS sends the events of all of them. While NATS is away it does not wait:
// the client library subscribes when it is back.
func (i *Interest) Acquire(subjects []string, ready func()) {
	i.ask(ask{subjects, ready})
}

// Release takes one session back for each subject. It never waits.
func (i *Interest) Release(subjects []string) { i.ask(ask{subjects, nil}) }

func (i *Interest) ask(a ask) {
	i.mu.Lock()
	i.asked = append(i.asked, a)
	i.mu.Unlock()
	select {
	case i.signal <- struct{}{}:
	default:
	}
}

func (i *Interest) stop() {
	close(i.quit)
	<-i.done
}

func (i *Interest) run() {
	defer close(i.done)
	for {
		select {
		case <-i.signal:
			i.apply()
		case <-i.quit:
			// Nobody waits for NATS any more, but no session may hang.
			i.apply()
			return
		}
	}
}

// flushTimeout bounds the wait for the server's word that it knows the new
// subscriptions.
const flushTimeout = 2 * time.Second

func (i *Interest) apply() {
	i.mu.Lock()
	asked := i.asked
	i.asked = nil
	i.mu.Unlock()

	changed := make(map[string]*want)
	for _, a := range asked {
		for _, s := range a.subjects {
			w := i.wants[s]
			if w == nil {
				w = &want{}
				i.wants[s] = w
			}
			if a.ready != nil {
				w.sessions++
			} else {
				w.sessions--
			}
			changed[s] = w
		}
	}
	added := false
	for s, w := range changed {
		switch {
		case w.sessions > 0 && w.subs == nil:
			i.subscribe(s, w)
			added = true
		case w.sessions <= 0:
			i.unsubscribe(s, w)
		}
	}
	i.held.Store(int64(len(i.wants)))
	if added && i.b.Connected() {
		if err := i.b.conn.FlushTimeout(flushTimeout); err != nil {
			i.b.log.Warn("NATS did not confirm new subscriptions in time", zap.String("reason", i.b.clean(err)))
		}
	}
	for _, a := range asked {
		if a.ready != nil {
			a.ready()
		}
	}
}

func (i *Interest) subscribe(subject string, w *want) {
	for _, root := range i.b.roots() {
		sub, err := i.b.conn.ChanSubscribe(root+"."+subject, i.b.feed)
		if err != nil {
			i.b.log.Error("subscribing failed", zap.String("subject", root+"."+subject), zap.String("reason", i.b.clean(err)))
			continue
		}
		w.subs = append(w.subs, sub)
	}
}

func (i *Interest) unsubscribe(subject string, w *want) {
	for _, sub := range w.subs {
		i.b.dropMu.Lock()
		if _, ok := i.b.dropped[sub]; ok {
			i.b.countDropped(sub)
			delete(i.b.dropped, sub)
		}
		i.b.dropMu.Unlock()
		if err := sub.Unsubscribe(); err != nil && !i.b.conn.IsClosed() {
			i.b.log.Warn("unsubscribing failed", zap.String("subject", subject), zap.String("reason", i.b.clean(err)))
		}
	}
	delete(i.wants, subject)
}

// CheckTemplates tells whether exact interest can serve these subscription
// templates: of two different subscriptions that match one event NATS sends
// the event twice, and a client must get it once.
func CheckTemplates(templates []string) error {
	patterns := make([]string, len(templates))
	for n, t := range templates {
		tokens := strings.Split(t, ".")
		for k, token := range tokens {
			if strings.Contains(token, "{") {
				tokens[k] = "*"
			}
		}
		patterns[n] = strings.Join(tokens, ".")
	}
	for n, p := range patterns {
		for m, q := range patterns {
			wild := api.HasWildcard(templates[n]) || api.HasWildcard(templates[m])
			if m > n && wild && overlap(strings.Split(p, "."), strings.Split(q, ".")) {
				return fmt.Errorf("nats.interest exact cannot serve subscriptions that overlap: %s and %s", templates[n], templates[m])
			}
		}
	}
	return nil
}

// overlap reports whether some subject matches both patterns.
func overlap(p, q []string) bool {
	for {
		switch {
		case len(p) == 0 || len(q) == 0:
			return len(p) == len(q)
		case p[0] == ">" || q[0] == ">":
			return true
		case p[0] != "*" && q[0] != "*" && p[0] != q[0]:
			return false
		}
		p, q = p[1:], q[1:]
	}
}
