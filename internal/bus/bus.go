package bus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"pushgate/api"
)

// Config is what a bus needs.
type Config struct {
	Options
	Log *zap.Logger

	Prefix, FlashPrefix string // the roots, without a dot at the end
	Exact               bool   // interest by subject instead of by wildcard

	// Durable is nil where nothing is stored. What is stored comes by wildcard in
	// any case.
	Durable *Durable

	stream *StreamConfig // what Durable makes of it; tests fetch without following
}

// Sink takes what comes, by one goroutine at a time.
type Sink interface {
	// Deliver takes events in the order of their arrival, those of a stream in
	// its order and each once. The slice is the bus's again when it returns,
	// the events are not.
	Deliver(events []api.Event)
	// Stream says of which stream events come from now on, and behind which
	// place; those up to newest were in it before. It is called before the
	// first of them, and again when the stream was made anew, or has lost its
	// end.
	Stream(at api.Position, newest uint64)
	// Lost says that stored events up to a sequence, which were due next,
	// could not be got.
	Lost(through uint64)
}

// feedSize is the length of the channel that all subscriptions share, in
// messages. It is emptied before each read of the socket, so it has to hold
// what one read can bring; twice that is room for what TLS holds back.
const feedSize = 16 << 10

// Bus is one connection to NATS, which comes back by itself for as long as
// the bus lives.
type Bus struct {
	cfg   Config
	log   *zap.Logger
	conn  *nats.Conn
	feed  chan *nats.Msg
	roots [2]string // what events come under

	mu    sync.Mutex // held while delivering
	sink  Sink
	batch []api.Event

	interest *Interest // nil with wildcard interest
	sequence *sequence // nil without stream
	control  *control  // nil without control service
	stream   *stream   // nil without a stream
	fetcher  *fetcher  // nil without a stream
	acks     *acks     // nil without ServeAcks
	post     *post     // small messages on their way out
	receipts posted
	presence posted
	outages  outages
	started  chan struct{} // closed when Start has subscribed

	connected  atomic.Bool
	everUp     atomic.Bool
	downSince  atomic.Int64 // Unix nanoseconds, 0 while connected
	reconnects atomic.Int64
	received   atomic.Int64
	refused    atomic.Pointer[string] // a subject of ours that NATS does not let us subscribe to

	dropMu  sync.Mutex
	dropped map[*nats.Subscription]int64 // as last read, of those that dropped
	drops   atomic.Int64
}

// New makes a bus that does nothing yet. What nobody can do anything about
// later, such as missing credential files, is an error.
func New(cfg Config) (*Bus, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Bus{
		cfg: cfg, log: cfg.Log,
		feed:    make(chan *nats.Msg, feedSize),
		roots:   [2]string{cfg.Prefix, cfg.FlashPrefix},
		dropped: make(map[*nats.Subscription]int64),
		started: make(chan struct{}),
	}
	b.post = newPost(b)
	b.downSince.Store(time.Now().UnixNano())
	if d := cfg.Durable; d != nil {
		b.sequence = newSequence(b, *d)
		b.roots[storedRoot] = d.RepublishPrefix
		if d.archive == nil {
			cfg.stream = &StreamConfig{
				Name: d.Stream, Prefix: cfg.Prefix, RepublishPrefix: d.RepublishPrefix, Create: d.Create, MaxAge: d.MaxAge,
			}
		}
	}
	if cfg.Exact {
		b.interest = newInterest(b)
	}
	if cfg.stream != nil {
		b.stream = newStream(b, *cfg.stream)
		b.fetcher = newFetcher(b, b.stream)
	}
	if b.sequence != nil && b.sequence.archive == nil {
		b.sequence.archive = archived{b.stream, b}
	}
	return b, nil
}

// Start connects; the caller closes the bus, also after an error. It returns
// at once: NATS may be away and is tried for ever, with jitter.
//
// While the sink takes events nothing is read from NATS.
func (b *Bus) Start(sink Sink) error {
	defer close(b.started)
	b.sink = sink
	opts, err := b.cfg.nats()
	if err != nil {
		return err
	}
	opts = append(opts,
		nats.SetCustomDialer(&tapDialer{b: b}),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials may be put right while we try
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(1<<20),
		nats.PingInterval(20*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(nc *nats.Conn) { b.up(nc, "connected to NATS") }),
		nats.ReconnectHandler(func(nc *nats.Conn) { b.reconnects.Add(1); b.up(nc, "connected to NATS again") }),
		nats.DisconnectErrHandler(b.down),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.notReached(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { b.onError(sub, err) }),
	)
	if b.conn, err = nats.Connect(b.cfg.URL, opts...); err != nil {
		return fmt.Errorf("connecting to NATS at %s: %s", Redact(b.cfg.URL), b.clean(err))
	}
	b.startAcks()
	if b.interest != nil {
		go b.interest.run()
	}
	if err := b.subscribe(); err != nil {
		return err
	}
	if b.sequence != nil {
		b.sequence.start()
	}
	if b.control != nil {
		return b.control.serve()
	}
	return nil
}

// subscribe takes everything under the roots that are not interest's.
func (b *Bus) subscribe() error {
	for k, root := range b.roots {
		if b.interest.has(k) {
			continue
		}
		if _, err := b.conn.ChanSubscribe(root+".>", b.feed); err != nil {
			return fmt.Errorf("subscribing to %s.>: %w", root, err)
		}
	}
	return nil
}

// The places of the roots in Bus.roots: of what is stored, where there is a
// stream, and of what never is.
const (
	storedRoot = iota
	flashRoot
)

// reconnectDelay is the wait before another round through the servers: half a
// second at first, up to five, spread by half so that a fleet does not come
// back as one.
func reconnectDelay(attempts int) time.Duration {
	d := min(500*time.Millisecond<<min(max(attempts-1, 0), 4), 5*time.Second)
	return d/2 + rand.N(d)
}

// Interest is nil with wildcard interest.
func (b *Bus) Interest() *Interest { return b.interest }

// Connected reports whether NATS is there now.
func (b *Bus) Connected() bool { return b.connected.Load() }

// EverConnected reports whether NATS was there at least once and had taken our
// subscriptions.
func (b *Bus) EverConnected() bool { return b.everUp.Load() }

// Flush waits until the NATS server has taken everything up to here.
func (b *Bus) Flush(within time.Duration) error { return b.conn.FlushTimeout(within) }

// DownFor is how long NATS has been away, 0 while it is there.
func (b *Bus) DownFor() time.Duration {
	since := b.downSince.Load()
	if since == 0 {
		return 0
	}
	return time.Since(time.Unix(0, since))
}

// Stats is a reading of a bus's figures.
type Stats struct {
	Connected  bool
	Reconnects int64
	Received   int64 // messages under the roots
	Dropped    int64 // messages that the client library had no room for
	Waiting    int   // messages received and not yet delivered
	Room       int   // for so many of those
	Unsent     int   // bytes on their way to NATS that the socket has not taken yet
	Subjects   int   // subscriptions with exact interest

	Stream StreamStats

	Revocations       int  // users in the bucket, as last counted
	RevocationsStored bool // the bucket is there and watched now

	AckStats

	PresenceSent, PresenceDropped int64
}

// Stats reads the figures; they need not be of one moment.
func (b *Bus) Stats() Stats {
	b.dropMu.Lock()
	for sub := range b.dropped {
		b.countDropped(sub)
	}
	b.dropMu.Unlock()
	st := Stats{
		Connected: b.Connected(), Reconnects: b.reconnects.Load(), Received: b.received.Load(),
		Dropped: b.drops.Load(), Waiting: len(b.feed), AckStats: b.ackStats(),
		PresenceSent: b.presence.sent.Load(), PresenceDropped: b.presence.dropped.Load(),
	}
	if b.conn != nil {
		st.Room, st.Unsent = cap(b.feed), b.unsent()
	}
	if b.interest != nil {
		st.Subjects = int(b.interest.held.Load())
	}
	if b.sequence != nil {
		st.Stream = b.sequence.stats()
	}
	if b.control != nil {
		st.Revocations = int(b.control.known.keys.Load())
		st.RevocationsStored = b.control.known.watch.Load()
	}
	return st
}

// unsent is what waits for the socket to NATS.
func (b *Bus) unsent() int {
	n, err := b.conn.Buffered()
	if err != nil {
		return 0
	}
	return n
}

// Close ends the connection and frees everything. What was read is delivered
// first.
func (b *Bus) Close() {
	if b.fetcher != nil {
		b.fetcher.stop()
	}
	if b.conn == nil {
		return
	}
	if b.interest != nil {
		b.interest.stop()
	}
	if b.sequence != nil {
		b.sequence.stop()
	}
	if b.control != nil {
		b.control.known.stop()
	}
	b.stopAcks()
	b.conn.Close()
	if b.control != nil {
		b.control.stop()
	}
	// Under the lock, as drain would not be where the channel is empty: what was
	// in it may be under way to the sink yet.
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deliverAll()
}

func (b *Bus) up(nc *nats.Conn, message string) {
	b.refused.Store(nil) // permissions may be others now
	b.outages.over(b.downSince.Load(), time.Now())
	b.connected.Store(true)
	b.downSince.Store(0)
	b.log.Info(message, zap.String("server", Redact(nc.ConnectedUrl())))
	b.lookAgain()
	// Ready is who would hear an event that is published now.
	<-b.started
	for !b.everUp.Load() && nc.IsConnected() {
		b.everUp.Store(nc.FlushTimeout(confirmTimeout) == nil)
	}
}

// confirmTimeout is how long NATS may take to confirm the first subscriptions
// before it is asked again.
const confirmTimeout = 2 * time.Second

// notReached says why NATS cannot be had, and with which login where that is the
// reason.
func (b *Bus) notReached(err error) {
	fields := []zap.Field{zap.String("reason", b.clean(err))}
	if isAuthError(err) {
		fields = append(fields, zap.String("login", b.cfg.loginName()))
	}
	b.log.Warn("NATS cannot be reached, trying again", fields...)
}

func isAuthError(err error) bool {
	for _, refused := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired, nats.ErrNkeysNotSupported,
	} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}

func (b *Bus) down(nc *nats.Conn, err error) {
	// First since when: who sees that it is down may ask.
	b.downSince.CompareAndSwap(0, time.Now().UnixNano())
	b.connected.Store(false)
	b.lookAgain()
	if nc.IsClosed() {
		return
	}
	b.log.Warn("NATS connection lost", zap.String("reason", b.clean(err)))
}

// lookAgain tells whoever follows something in NATS that the connection came
// or went.
func (b *Bus) lookAgain() {
	if b.sequence != nil {
		b.sequence.wake()
	}
	if b.control != nil {
		b.control.known.look()
	}
}

// clean is an error's text without credentials that a URL in it may hold.
func (b *Bus) clean(err error) string {
	if err == nil {
		return "closed"
	}
	return Redact(err.Error())
}

func (b *Bus) onError(sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil && sub.Type() == nats.ChanSubscription {
		b.dropMu.Lock()
		b.countDropped(sub)
		total := b.drops.Load()
		b.dropMu.Unlock()
		b.log.Warn("events were dropped: they came faster than they could be delivered",
			zap.String("subject", sub.Subject), zap.Int64("dropped", total))
		if b.sequence != nil {
			b.sequence.askLook()
		}
		return
	}
	b.noteRefused(err)
	fields := []zap.Field{zap.String("reason", b.clean(err))}
	if sub != nil {
		fields = append(fields, zap.String("subject", sub.Subject))
	}
	b.log.Error("NATS reported an error", fields...)
}

// noteRefused notes what NATS refuses: a subscription under the roots, so that
// events that clients wait for do not come, or what the stream needs.
func (b *Bus) noteRefused(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	if _, rest, ok := strings.Cut(err.Error(), `Publish to "`); ok && b.sequence != nil {
		b.sequence.noteRefused(rest)
		return
	}
	_, rest, ok := strings.Cut(err.Error(), `Subscription to "`)
	subject, _, closed := strings.Cut(rest, `"`)
	if !ok || !closed {
		return
	}
	for _, root := range b.roots {
		if strings.HasPrefix(subject, root+".") {
			b.refused.CompareAndSwap(nil, &subject)
			return
		}
	}
}

// Refused is a subject of the gateway's own that its NATS user may not subscribe
// to, "" for none: events do not come.
func (b *Bus) Refused() string {
	if s := b.refused.Load(); s != nil {
		return *s
	}
	return ""
}

// countDropped adds what sub has dropped since it was last asked. dropMu is
// held.
func (b *Bus) countDropped(sub *nats.Subscription) {
	n, err := sub.Dropped()
	if err != nil {
		delete(b.dropped, sub) // it is closed, and said all it will
		return
	}
	b.drops.Add(int64(n) - b.dropped[sub])
	b.dropped[sub] = int64(n)
}
