package session

import (
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/auth"
	"pushgate/internal/poll"
)

// Verifier turns a token into an identity. It is called by several goroutines
// at a time, never by a loop. An error that is an *auth.Error is the client's
// to read.
type Verifier interface {
	Verify(token string) (auth.Identity, error)
	// Revoked reports whether a token of the user, issued at a Unix time (0: it
	// does not say), is refused by now. Loops call it: it must not wait.
	Revoked(user string, issued int64) bool
}

// quickVerifier is a Verifier that can tell of many tokens at once that they are
// good, in a few microseconds: loops ask it themselves, which spares two
// hand-overs. What it reports false for goes to the verifiers.
type quickVerifier interface {
	VerifyNow(token string) (auth.Identity, bool)
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

// History is the stored stream, beyond what the ring holds.
type History interface {
	// Fetch never waits. done is called once, by another goroutine.
	Fetch(r api.Fetch, done func(api.Page, error))
}

// Config is what a hub needs. Sizes are bytes.
type Config struct {
	Verifier Verifier
	Interest Interest // nil: everything arrives
	History  History  // nil: there is none
	Acks     Acks     // nil: there are none
	Presence Presence // nil: nobody is told who comes and goes
	// Receipt is called, by any goroutine, for an event that wants a receipt
	// and was given to sessions. It must not wait.
	Receipt func(reply string, delivered int)
	Log     *zap.Logger
	Loops   int // 0: one a processor

	// TLS is what the listener speaks; nil: plain text.
	TLS *tls.Config

	// Page takes connections whose request is for one of PagePaths, with what
	// was read of them still to be read, and closes them. A path that ends with
	// a slash stands for all below it, but "/" for itself. nil: they get 404.
	Page      func(net.Conn)
	PagePaths []string

	// Subscriptions are the templates by issuer, "" for one without a name;
	// they tell where a subject lives. They hold no {issuer} any more.
	Subscriptions map[string][]string

	Carriers   []string // of "header", "subprotocol", "query", "cookie"; in no order
	CookieName string
	Origins    []string // of pages that may connect; "*" is all
	SameHost   bool     // pages of the request's own host may connect as well
	Trusted    []netip.Prefix

	// Limits; 0 is none.
	Sessions            int
	SessionsPerUser     int
	SessionsPerAddress  int
	HandshakesPerSecond int // in all, from one address, of one user
	AddressHandshakes   int
	UserHandshakes      int

	HalfOpen      int
	Subjects      int           // of one session
	RingBytes     int64         // of stored events in memory
	RingAge       time.Duration // 0: any
	TokenBytes    int
	EventBytes    int
	OutboxBytes   int
	OutboxesBytes int64 // of all sessions together, the kernel's part included; 0 is no limit
	Slow          []SlowRule
	ReplaceOldest bool // SessionsPerUser makes room by ending the user's oldest session
	MessageBytes  int
	PollBytes     int // of events in one answer to a poll
	Heartbeat     time.Duration
	MaxHeartbeat  time.Duration // that a client may ask for
	Compression   bool          // permessage-deflate with clients that offer it
	FlightEvents  int           // entries of the flight recorder; 0: none

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
	tls      *tlsPort      // nil without TLS
	quick    quickVerifier // nil: tokens are for the verifiers
	verify   chan *check
	quit     chan struct{} // closed when verifiers are to end
	workers  sync.WaitGroup
	endings  chan ending
	logging  sync.WaitGroup
	last     lastEndings

	ring       ring
	flight     hubFlight
	streamID   atomic.Pointer[string]
	epoch      uint32        // Deliver's: counts the streams
	routed     atomic.Uint64 // stored events up to it have been given to their loops
	filled     atomic.Uint64 // up to it the ring is filled with what was stored before
	roamers    roamers
	open       atomic.Int64 // sessions, the admitted and the closing included
	halfOpen   atomic.Int64
	idle       atomic.Int64 // connections that wait for their client's next request
	surplus    atomic.Int64 // refused for being over limits.half_open, and not gone yet
	draining   atomic.Bool
	strained   atomic.Bool // memory is short
	events     atomic.Int64
	handshakes [32]atomic.Int64 // by api.RefusalKind; 0 is accepted
	drops      [dropCauses]atomic.Int64
	badTokens  [32]atomic.Int64 // by auth.Reason

	batches [][]*delivery // Deliver's, one a loop
	shared  []bool
	targets []*loop

	turned    returning
	moving    atomic.Bool // a rebalance is under way
	overall   *tempo      // handshakes
	addrPace  pace        // handshakes
	userPace  pace
	addresses quota        // sessions
	parked    atomic.Int64 // tokens that wait for keys

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
		tls:     newTLSPort(cfg.TLS, cfg.Loops),
		verify:  make(chan *check, max(cfg.HalfOpen, 1)),
		quit:    make(chan struct{}),
		endings: make(chan ending, 1024),
		last:    lastEndings{kept: newRecent[Ending](recentEndings)},
		batches: make([][]*delivery, cfg.Loops),
		shared:  make([]bool, cfg.Loops),
	}
	h.quick, _ = cfg.Verifier.(quickVerifier)
	h.overall, h.turned.capacity = newTempo(cfg.HandshakesPerSecond), cfg.HandshakesPerSecond
	h.addrPace.limit, h.userPace.limit = cfg.AddressHandshakes, cfg.UserHandshakes
	h.addresses.limit = cfg.SessionsPerAddress
	h.ring.limit, h.ring.maxAge = cfg.RingBytes, cfg.RingAge
	h.flight.init(cfg.FlightEvents)
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
// hub's from then on. Order holds per subject; stored events come in their
// stream's order, each once. One goroutine at a time may call it; it never
// waits for a loop.
func (h *Hub) Deliver(events []api.Event) {
	now := h.cfg.Now()
	h.events.Add(int64(len(events)))
	stored := h.take(events, now)
	for i, batch := range h.batches {
		if len(batch) == 0 {
			continue
		}
		l := h.loops[i]
		if h.shared[i] || !l.enter(batch) {
			for _, d := range batch {
				// A stored event is not lost: the loop gets it from the ring.
				if !l.post(message{event: d}) && d.event.Seq == 0 {
					h.drops[DropMailbox].Add(1)
					h.flight.lost(d)
					d.receipt.give(0)
				}
			}
		}
		clear(batch)
		h.batches[i] = batch[:0]
		h.shared[i] = false
	}
	if stored > 0 {
		h.routed.Store(stored)
	}
}

// take puts events into the batches of the loops, and returns the last stored
// sequence among them, or 0.
func (h *Hub) take(events []api.Event, now time.Time) (stored uint64) {
	at := now.UnixNano()
	h.flight.mu.Lock()
	defer h.flight.mu.Unlock()
	for i := range events {
		e := &events[i]
		if e.Seq > 0 {
			stored = e.Seq
		}
		if cause := h.unfit(e); cause != dropCauses {
			if e.Seq > 0 {
				h.ring.pass(e.Seq)
			}
			h.flight.note(at, wasDropped, cause, e)
			continue
		}
		what := wasUnwanted
		if h.give(e, now) {
			what = wasSeen
		}
		h.flight.note(at, what, 0, e)
	}
	return stored
}

// give puts an event into the ring, where it is stored, and into the batches of
// the loops that may have takers. It reports whether there are any.
func (h *Hub) give(e *api.Event, now time.Time) bool {
	var d *delivery
	if e.Seq > 0 {
		// First into the ring, then to who wants it: whoever begins to want it
		// in between finds it there.
		d = h.newDelivery(e, now)
		h.ring.add(d, now)
	}
	targets := h.route(e.Subject)
	if len(targets) == 0 {
		return false
	}
	if d == nil {
		d = h.newDelivery(e, now)
		if e.Reply != "" {
			d.receipt = newReceipt(h.cfg.Receipt, e.Reply, len(targets))
		}
	}
	for _, l := range targets {
		h.batches[l.number] = append(h.batches[l.number], d)
	}
	return true
}

// maxHeaders bounds what an event's headers bring to its frame, in bytes: its id,
// type, trace and attributes.
const maxHeaders = 8 << 10

// mayEnter drops, and counts, what no session can be given.
func (h *Hub) mayEnter(e *api.Event) bool { return h.unfit(e) == dropCauses }

// unfit is why an event is dropped, dropCauses when it is not.
func (h *Hub) unfit(e *api.Event) DropCause {
	switch {
	case len(e.Data) > h.cfg.EventBytes, e.Size()-len(e.Data) > maxHeaders:
		h.drops[DropTooLarge].Add(1)
		h.log.Warn("event dropped: larger than limits.event_bytes",
			zap.String("subject", e.Subject), zap.Int("bytes", e.Size()))
		return DropTooLarge
	case !api.ValidSubject(e.Subject):
		h.drops[DropSubject].Add(1)
		h.log.Warn("event dropped: its subject cannot be subscribed to", zap.String("subject", e.Subject))
		return DropSubject
	}
	return dropCauses
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
		h.call(l, f)
	}
}

// Close ends all connections at once and frees everything. Drain comes before
// it where clients are to be told.
func (h *Hub) Close() {
	h.closing.Do(func() {
		h.stopListening()
		h.stopTLS()
		close(h.quit)
		h.workers.Wait()
		h.everywhere(func(l *loop) { l.refusing = true })
		h.forgetChecks()
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
