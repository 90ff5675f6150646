package bus

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
}

// feedSize is the length of the channel that all subscriptions share, in
// messages. It is emptied before each read of the socket, so it has to hold
// what one read can bring; twice that is room for what TLS holds back.
const feedSize = 16 << 10

// Bus is one connection to NATS, which comes back by itself for as long as
// the bus lives.
type Bus struct {
	cfg  Config
	log  *zap.Logger
	conn *nats.Conn
	feed chan *nats.Msg

	mu      sync.Mutex // held while delivering
	deliver func([]api.Event)
	batch   []api.Event

	interest *Interest     // nil with wildcard interest
	started  chan struct{} // closed when Start has subscribed

	connected  atomic.Bool
	everUp     atomic.Bool
	downSince  atomic.Int64 // Unix nanoseconds, 0 while connected
	reconnects atomic.Int64
	received   atomic.Int64

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
		dropped: make(map[*nats.Subscription]int64),
		started: make(chan struct{}),
	}
	b.downSince.Store(time.Now().UnixNano())
	if cfg.Exact {
		b.interest = newInterest(b)
	}
	return b, nil
}

// Start connects; the caller closes the bus, also after an error. It returns
// at once: NATS may be away and is tried for ever, with jitter.
//
// deliver takes events in the order of their arrival, by one goroutine at a
// time. The slice is the bus's again when it returns, the events are not.
// While it runs nothing is read from NATS.
func (b *Bus) Start(deliver func([]api.Event)) error {
	defer close(b.started)
	b.deliver = deliver
	opts, err := b.cfg.nats()
	if err != nil {
		return err
	}
	opts = append(opts,
		nats.SetCustomDialer(&tapDialer{b: b}),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectBufSize(1<<20),
		nats.PingInterval(20*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(nc *nats.Conn) { b.up(nc, "connected to NATS") }),
		nats.ReconnectHandler(func(nc *nats.Conn) { b.reconnects.Add(1); b.up(nc, "connected to NATS again") }),
		nats.DisconnectErrHandler(b.down),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			b.log.Warn("NATS cannot be reached, trying again", zap.String("reason", b.clean(err)))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { b.onError(sub, err) }),
	)
	if b.conn, err = nats.Connect(b.cfg.URL, opts...); err != nil {
		return fmt.Errorf("connecting to NATS at %s: %s", Redact(b.cfg.URL), b.clean(err))
	}
	if b.interest != nil {
		go b.interest.run()
		return nil
	}
	for _, root := range b.roots() {
		if _, err := b.conn.ChanSubscribe(root+".>", b.feed); err != nil {
			return fmt.Errorf("subscribing to %s.>: %w", root, err)
		}
	}
	return nil
}

func (b *Bus) roots() []string { return []string{b.cfg.Prefix, b.cfg.FlashPrefix} }

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
	Subjects   int   // subscriptions with exact interest
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
		Dropped: b.drops.Load(), Waiting: len(b.feed),
	}
	if b.interest != nil {
		st.Subjects = int(b.interest.held.Load())
	}
	return st
}

// Close ends the connection and frees everything. What was read is delivered
// first.
func (b *Bus) Close() {
	if b.conn == nil {
		return
	}
	if b.interest != nil {
		b.interest.stop()
	}
	b.conn.Close()
	b.drain()
}

func (b *Bus) up(nc *nats.Conn, message string) {
	b.connected.Store(true)
	b.downSince.Store(0)
	b.log.Info(message, zap.String("server", Redact(nc.ConnectedUrl())))
	// Ready is who would hear an event that is published now.
	<-b.started
	for !b.everUp.Load() && nc.IsConnected() {
		b.everUp.Store(nc.FlushTimeout(confirmTimeout) == nil)
	}
}

// confirmTimeout is how long NATS may take to confirm the first subscriptions
// before it is asked again.
const confirmTimeout = 2 * time.Second

func (b *Bus) down(nc *nats.Conn, err error) {
	// First since when: who sees that it is down may ask.
	b.downSince.CompareAndSwap(0, time.Now().UnixNano())
	b.connected.Store(false)
	if nc.IsClosed() {
		return
	}
	b.log.Warn("NATS connection lost", zap.String("reason", b.clean(err)))
}

// clean is an error's text without credentials that a URL in it may hold.
func (b *Bus) clean(err error) string {
	if err == nil {
		return "closed"
	}
	return Redact(err.Error())
}

func (b *Bus) onError(sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
		b.dropMu.Lock()
		b.countDropped(sub)
		total := b.drops.Load()
		b.dropMu.Unlock()
		b.log.Warn("events were dropped: they came faster than they could be delivered",
			zap.String("subject", sub.Subject), zap.Int64("dropped", total))
		return
	}
	fields := []zap.Field{zap.String("reason", b.clean(err))}
	if sub != nil {
		fields = append(fields, zap.String("subject", sub.Subject))
	}
	b.log.Error("NATS reported an error", fields...)
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
