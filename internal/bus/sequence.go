package bus

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"pushgate/api"
)

// Durable says which stream stores what comes under Config.Prefix.
type Durable struct {
	Stream          string        // its name
	RepublishPrefix string        // the root of its republished copies
	RingBytes       int64         // about as much of its end is fetched at the start
	Create          bool          // make it where it is missing
	MaxAge          time.Duration // of an event in a stream that is made; 0 for ever

	archive archive // tests bring their own
}

// archive is the stored stream as the sequence needs it. All wait for NATS.
type archive interface {
	// open makes the stream where it is missing, and checks it.
	open(ctx context.Context) error
	// info is one STREAM.INFO, which the leader answers.
	info(ctx context.Context) (streamState, error)
	// fetch brings one page.
	fetch(ctx context.Context, r api.Fetch) (api.Page, error)
}

// archived is the stream itself: what is fetched from it goes the way of all
// fetches.
type archived struct {
	*stream
	b *Bus
}

func (a archived) fetch(ctx context.Context, r api.Fetch) (api.Page, error) {
	type result struct {
		page api.Page
		err  error
	}
	got := make(chan result, 1)
	a.b.Fetch(r, func(p api.Page, err error) { got <- result{p, err} })
	select {
	case x := <-got:
		return x.page, x.err
	case <-ctx.Done():
		return api.Page{}, ctx.Err()
	}
}

// sequence hands the events of the stream to the sink in its order, each once.
// Who takes messages off the feed brings the live ones; one goroutine looks at
// the stream, and fetches what is missing:
//
//	republished copy ──► order ──► due ──────────────► sink
//	                       │ early                      ▲
//	                       ▼                            │
//	                    waiting ◄── catchUp ── archive ─┘
//
// A copy can be missing without a later one that would show it: only a leader
// republishes, and it may be lost in between. Hence the looks.
type sequence struct {
	b       *Bus
	log     *zap.Logger
	cfg     Durable
	archive archive
	pace    sequencePace

	poke   chan struct{} // of one: something is missing, or in doubt
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup

	// Under Bus.mu, which is never held while NATS is waited for.
	id    string // the stream's identity, "" until it is known
	order order

	// doubts counts the reasons to doubt that the stream is still the same: a
	// new connection, a young event of an old sequence. Until a look has
	// settled the last one nothing is due, so that no event of another stream
	// gets a place in this one.
	doubts, settled atomic.Uint64

	asked atomic.Bool // for a look
	ready atomic.Bool
	why   atomic.Pointer[error] // what keeps the stream from being opened

	gaps, repaired, lost, duplicates atomic.Int64
	forged, strangers, looks         atomic.Int64
	waiting                          atomic.Int64
	last                             atomic.Uint64

	// Only the goroutine's own.
	giveUp  *time.Timer
	opened  bool
	said    string    // the last complaint
	trouble time.Time // since when nothing works
	lookAt  time.Time // the next look is due
	end     uint64    // of the stream, as last looked at
	tail    uint64    // a sequence that should have come
	tailAt  time.Time // and must by then
	lower   time.Time // since when the stream ends below what was handed on
}

// sequencePace is how often and how long things are tried.
type sequencePace struct {
	look     time.Duration // between two looks at the stream
	tail     time.Duration // for what is published to get here
	patience time.Duration // until what cannot be fetched is lost
	giveUp   time.Duration // from being connected until nobody waits for the stream
}

func newSequence(b *Bus, d Durable) *sequence {
	s := &sequence{
		b: b, log: b.log, cfg: d, archive: d.archive,
		pace:  sequencePace{look: 3 * time.Second, tail: 250 * time.Millisecond, patience: 30 * time.Second, giveUp: 10 * time.Second},
		poke:  make(chan struct{}, 1),
		order: order{maxWaiting: maxWaiting, maxBytes: maxWaitingBytes},
	}
	s.doubts.Store(1)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *sequence) start() { s.all.Go(s.run) }

// stop ends the goroutine. It is for before the connection's end.
func (s *sequence) stop() {
	s.cancel()
	s.all.Wait()
}

// wake makes the goroutine look what there is to do. It never waits.
func (s *sequence) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// askLook makes the goroutine look at the stream. It never waits.
func (s *sequence) askLook() {
	s.asked.Store(true)
	s.wake()
}

// doubt makes everything wait until the stream was looked at. It never waits,
// and wakes nobody.
func (s *sequence) doubt() { s.doubts.Add(1) }

func (s *sequence) inDoubt() bool { return s.settled.Load() != s.doubts.Load() }

// take adds a message to the batch if it is due. Bus.mu is held.
func (s *sequence) take(subject string, m *nats.Msg) {
	e, forged, err := storedEvent(subject, s.cfg.Stream, m)
	if forged {
		s.forged.Add(1)
	}
	if err != nil {
		s.strangers.Add(1)
		return
	}
	if s.id == "" {
		return // the first look finds it in the stream
	}
	behind := s.order.behind()
	switch s.order.arrive(&e, s.inDoubt()) {
	case due:
		e.Cursor = s.cursor(e.Seq)
		s.b.batch = append(s.b.batch, e)
	case early:
		if !behind {
			if e.Seq > s.order.next {
				s.gaps.Add(1)
			}
			s.wake()
		}
	case late:
		s.duplicates.Add(1)
	case foreign:
		s.duplicates.Add(1)
		s.doubt()
		s.wake()
	}
}

func (s *sequence) cursor(seq uint64) string { return api.Position{Stream: s.id, Seq: seq}.Cursor() }

// note makes the figures that Stats reads. Bus.mu is held.
func (s *sequence) note() {
	s.last.Store(max(s.order.next, 1) - 1)
	s.waiting.Store(int64(len(s.order.waiting)))
}

// StreamStats are the figures of the stored stream.
type StreamStats struct {
	Last       uint64 // the sequence that was handed on last
	Waiting    int    // events behind a gap
	Gaps       int64  // noticed by a live event
	Repaired   int64  // events that were fetched, those of the start included
	Lost       int64  // times that events could not be got
	Duplicates int64  // events that came again
	Forged     int64  // messages whose publisher wrote the server's headers
	Strangers  int64  // messages that do not come from the stream, and were dropped
	Looks      int64  // at the stream's state
}

func (s *sequence) stats() StreamStats {
	return StreamStats{
		Last: s.last.Load(), Waiting: int(s.waiting.Load()),
		Gaps: s.gaps.Load(), Repaired: s.repaired.Load(), Lost: s.lost.Load(), Duplicates: s.duplicates.Load(),
		Forged: s.forged.Load(), Strangers: s.strangers.Load(), Looks: s.looks.Load(),
	}
}

// noteRefused takes the subject of a request that NATS does not let this user
// make: it gets no answer.
func (s *sequence) noteRefused(subject string) {
	subject, _, _ = strings.Cut(subject, `"`)
	if strings.HasSuffix(subject, ".API.STREAM.INFO."+s.cfg.Stream) || strings.HasSuffix(subject, ".API.STREAM.CREATE."+s.cfg.Stream) {
		err := fmt.Errorf("stream %q cannot be used: %w: this user may not publish to %s", s.cfg.Stream, ErrStreamRefused, subject)
		s.why.Store(&err)
	}
}

// StreamError is what keeps the stream from being opened, nil when nothing does
// or there is none.
func (b *Bus) StreamError() error {
	if b.sequence != nil {
		if why := b.sequence.why.Load(); why != nil {
			return *why
		}
	}
	return nil
}

// StreamReady reports whether the newest stored events were handed on, or
// nobody should wait for them: there is no stream, or NATS has been connected
// for ten seconds and did not give them.
func (b *Bus) StreamReady() bool { return b.sequence == nil || b.sequence.ready.Load() }
