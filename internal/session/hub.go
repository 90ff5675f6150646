package session

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"pushgate/api"
	"pushgate/internal/auth"
	"pushgate/internal/poll"
)

// Verifier turns a token into an identity. It is called by several goroutines
// at a time, never by a loop. An error that is an *auth.Error is the client's
// to read.
type Verifier interface {
	Verify(token string) (auth.Identity, error)
}

// Interest learns which subjects local sessions want, where the source of
// events sends only what is wanted.
type Interest interface {
	// Acquire notes one more session for each subject. ready is called once,
	// by any goroutine, when events of all of them arrive, or could not be
	// awaited any longer.
	Acquire(subjects []string, ready func())
	// Release takes one session back for each subject. It never waits.
	Release(subjects []string)
}

// Config is what a hub needs. Sizes are bytes.
type Config struct {
	Verifier Verifier
	Interest Interest // nil: everything arrives
	Log      *zap.Logger
	Loops    int // 0: one a processor

	// Page takes connections whose request is not the gateway's, with what
	// was read of them still to be read, and closes them. nil: they get 404.
	Page func(net.Conn)

	Subscriptions []string // the templates, which tell where a subject lives
	Carriers      []string // of "header", "subprotocol", "query"; in no order
	Origins       []string // allowed besides the request's own host; "*" is all

	Sessions            int // at most; 0: no limit
	SessionsPerUser     int // at most; 0: no limit
	HandshakesPerSecond int // at most; 0: no limit
	HalfOpen            int
	TokenBytes          int
	EventBytes          int
	OutboxBytes         int
	MessageBytes        int
	Heartbeat           time.Duration

	Now func() time.Time // nil: time.Now
}

// mailboxBytes bounds the events that wait for one loop. Passing it takes a
// loop that is seconds behind; what comes then is dropped and counted.
const mailboxBytes = 64 << 20

// Hub is the sessions of one gateway, on their loops. Its methods may be
// called by any goroutine, but Deliver by one at a time.
type Hub struct {
	cfg   Config
	log   *zap.Logger
	seed  maphash.Seed
	ids   sessionIDs
	homes []home
	began time.Time
	loops []*loop

	listener *poll.Listener
	limiter  *rate.Limiter
	verify   chan *handshake
	workers  sync.WaitGroup
	endings  chan ending
	logging  sync.WaitGroup

	open       atomic.Int64 // sessions, the admitted and the closing included
	halfOpen   atomic.Int64
	surplus    atomic.Int64 // refused for being over limits.half_open, and not gone yet
	draining   atomic.Bool
	events     atomic.Int64
	handshakes [32]atomic.Int64 // by api.RefusalKind; 0 is accepted
	drops      [dropCauses]atomic.Int64
	badTokens  [32]atomic.Int64 // by auth.Reason

	batches [][]*delivery // Deliver's, one a loop
	shared  []bool

	closing sync.Once
}

// New makes a hub and starts its loops; its caller closes it. It serves nobody
// before Serve.
func New(cfg Config) (*Hub, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Loops < 1 {
		return nil, errors.New("session: a hub needs at least one loop")
	}
	ids, err := newSessionIDs()
	if err != nil {
		return nil, err
	}
	h := &Hub{
		cfg: cfg, log: cfg.Log, seed: maphash.MakeSeed(), ids: ids,
		homes:   homesOf(cfg.Subscriptions),
		began:   cfg.Now(),
		verify:  make(chan *handshake, max(cfg.HalfOpen, 1)),
		endings: make(chan ending, 1024),
		batches: make([][]*delivery, cfg.Loops),
		shared:  make([]bool, cfg.Loops),
	}
	if cfg.HandshakesPerSecond > 0 {
		h.limiter = rate.NewLimiter(rate.Limit(cfg.HandshakesPerSecond), cfg.HandshakesPerSecond)
	}
	for i := range cfg.Loops {
		l, err := newLoop(h, i)
		if err != nil {
			for _, made := range h.loops {
				made.poller.Close()
			}
			return nil, fmt.Errorf("session: %w", err)
		}
		h.loops = append(h.loops, l)
	}
	for _, l := range h.loops {
		go l.run()
	}
	for range verifiers(cfg.Loops) {
		h.workers.Go(h.verifyAll)
	}
	h.logging.Go(h.logEndings)
	return h, nil
}

// verifiers is how many goroutines check tokens. More than processors would
// only take time from the loops.
func verifiers(loops int) int { return max(loops, 2) }

// Serve has the loops accept from l, which the hub closes.
func (h *Hub) Serve(l *poll.Listener) error {
	h.listener = l
	var failed error
	h.everywhere(func(lp *loop) {
		if err := lp.listen(); err != nil {
			failed = err
		}
	})
	return failed
}

// Deliver hands events to the sessions that want them. The events are the
// hub's from then on. Order holds per subject. One goroutine at a time may
// call it; it never waits for a loop.
func (h *Hub) Deliver(events []api.Event) {
	now := h.cfg.Now()
	h.events.Add(int64(len(events)))
	for i := range events {
		e := &events[i]
		if len(e.Data) > h.cfg.EventBytes {
			h.drops[DropTooLarge].Add(1)
			h.log.Warn("event dropped: larger than limits.event_bytes",
				zap.String("subject", e.Subject), zap.Int("bytes", len(e.Data)))
			continue
		}
		if !api.ValidSubject(e.Subject) {
			h.drops[DropSubject].Add(1)
			h.log.Warn("event dropped: its subject cannot be subscribed to", zap.String("subject", e.Subject))
			continue
		}
		h.route(e, now)
	}
	for i, batch := range h.batches {
		if len(batch) == 0 {
			continue
		}
		l := h.loops[i]
		if h.shared[i] || !l.enter(batch) {
			for _, d := range batch {
				if !l.post(message{event: d}) {
					h.drops[DropMailbox].Add(1)
				}
			}
		}
		clear(batch)
		h.batches[i] = batch[:0]
		h.shared[i] = false
	}
}

// hash is the seeded hash that finds names and homes. Being seeded it cannot
// be steered from outside.
func (h *Hub) hash(b []byte) uint64 { return maphash.Bytes(h.seed, b) }

// homeOf is the loop that all sessions of a user live on.
func (h *Hub) homeOf(user string) *loop {
	return h.loops[maphash.String(h.seed, user)%uint64(len(h.loops))]
}

// tickAt counts the seconds since the hub began.
func (h *Hub) tickAt(t time.Time) uint16 { return uint16(t.Sub(h.began) / time.Second) }

// untilTick is the time to the next tick in milliseconds, rounded up.
func (h *Hub) untilTick(t time.Time) int {
	return int((time.Second - t.Sub(h.began)%time.Second + time.Millisecond - 1) / time.Millisecond)
}

// everywhere runs f on each loop in turn and waits for all.
func (h *Hub) everywhere(f func(*loop)) {
	for _, l := range h.loops {
		done := make(chan struct{})
		l.post(message{do: func(l *loop) { f(l); close(done) }})
		select {
		case <-done:
		case <-l.done:
		}
	}
}

// Close ends all connections at once and frees everything. Drain comes before
// it where clients are to be told.
func (h *Hub) Close() {
	h.closing.Do(func() {
		h.stopListening()
		close(h.verify)
		h.workers.Wait()
		h.everywhere(func(l *loop) {
			l.closeAll()
			l.stopping = true
		})
		for _, l := range h.loops {
			<-l.done
			l.poller.Close()
		}
		close(h.endings)
		h.logging.Wait()
	})
}

// refusalOf returns the HTTP refusal that a verifier's error means.
func refusalOf(err error) api.Refusal {
	var bad *auth.Error
	if !errors.As(err, &bad) {
		return api.Refusal{Kind: api.RefusedFull, Message: "tokens cannot be verified at the moment", RetryAfter: retryAfter()}
	}
	if bad.Reason.Forbidden() {
		return api.Refusal{Kind: api.RefusedForbidden, Message: bad.Message}
	}
	return api.Refusal{Kind: api.RefusedToken, Message: bad.Message, BadToken: true}
}
