package bus

import (
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

	// The goroutine's own, which changes them under Bus.mu: who delivers
	// events looks at them.
	wants   map[string]*want
	shapes  api.Shapes // of those with wildcards
	begun   uint64     // wants so far
	scratch []byte     // who delivers has it
}

// ask is one request: to acquire, with ready, or to release.
type ask struct {
	subjects []string
	ready    func()
}

type want struct {
	sessions int
	since    uint64
	subs     []*nats.Subscription // by root; nil where NATS refused it, or interest has it not
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
// subscriptions. Tests are more patient.
var flushTimeout = 2 * time.Second

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
				i.b.mu.Lock()
				i.wants[s] = w
				i.b.mu.Unlock()
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
			i.begin(s, w)
			added = true
		case w.sessions <= 0:
			i.end(s, w)
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

func (i *Interest) begin(subject string, w *want) {
	i.b.mu.Lock()
	defer i.b.mu.Unlock()
	i.begun++
	w.since = i.begun
	if api.HasWildcard(subject) {
		i.shapes.Count(subject, 1)
	}
	for k, root := range i.b.roots {
		if !i.has(k) {
			w.subs = append(w.subs, nil)
			continue
		}
		sub, err := i.b.conn.ChanSubscribe(root+"."+subject, i.b.feed)
		if err != nil {
			i.b.log.Error("subscribing failed", zap.String("subject", root+"."+subject), zap.String("reason", i.b.clean(err)))
		}
		w.subs = append(w.subs, sub)
	}
}

func (i *Interest) end(subject string, w *want) {
	i.b.mu.Lock()
	defer i.b.mu.Unlock()
	// What has come counts by the subscriptions of before.
	i.b.deliverAll()
	delete(i.wants, subject)
	if w.subs == nil {
		return // it came and went before NATS was told
	}
	if api.HasWildcard(subject) {
		i.shapes.Count(subject, -1)
	}
	for _, sub := range w.subs {
		if sub == nil {
			continue
		}
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
}

// counts tells whether a message is the one of its copies that counts. NATS
// sends a message once for each subscription that it matches; that of the
// oldest counts, so that a newer one, whose first message nobody knows, can
// neither double nor lose anything. When the oldest of several goes at the very
// moment of a message, that one may come twice or not at all.
func (i *Interest) counts(m *nats.Msg, root int, subject string) bool {
	if len(i.shapes) == 0 {
		return true // literals never meet
	}
	oldest := i.wants[subject]
	tokens := strings.Count(subject, ".") + 1
	for _, sh := range i.shapes {
		if !sh.Fits(tokens) {
			continue
		}
		i.scratch = sh.Apply(i.scratch[:0], subject)
		if w := i.wants[string(i.scratch)]; w != nil && w.takes(root) && (oldest == nil || !oldest.takes(root) || w.since < oldest.since) {
			oldest = w
		}
	}
	return oldest != nil && oldest.takes(root) && oldest.subs[root] == m.Sub
}

// has reports whether a root has a subscription for each subject. That of a
// stored stream never has: a stream is only whole, and in order, when all of it
// comes, and who connects next may have missed what nobody wants now.
func (i *Interest) has(root int) bool {
	return i != nil && (root != storedRoot || i.b.sequence == nil)
}

// takes reports whether NATS sends what is wanted under a root.
func (w *want) takes(root int) bool { return root < len(w.subs) && w.subs[root] != nil }
