package bus

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// revocations are a JetStream bucket that every gateway writes and watches, so
// that who starts later, or was away, knows them too. One goroutine follows the
// bucket as long as NATS is connected; a few others write to it.
type revocations struct {
	b        *Bus
	log      *zap.Logger
	sessions Sessions
	store    keyBucket
	pace     pace

	poke   chan struct{} // of one: look at the connection and the bucket again
	queue  chan keeping
	ctx    context.Context // ends with the bus
	cancel context.CancelFunc
	all    sync.WaitGroup // of the goroutines

	bucket atomic.Pointer[jetstream.KeyValue] // nil: not open
	absent atomic.Bool                        // there is no JetStream
	loaded atomic.Bool                        // or it is hopeless to wait; never false again
	keys   atomic.Int64
	watch  atomic.Bool            // the bucket is followed now
	why    atomic.Pointer[string] // what keeps the bucket from being followed

	// Only the following goroutine's own.
	said    string // the last complaint
	giveUp  *time.Timer
	settled bool // the initial values of this watch were applied
}

// pace is how often and how long things are tried.
type pace struct {
	absent time.Duration // before JetStream is looked for again
	check  time.Duration // between two looks at the bucket's identity
	giveUp time.Duration // from being connected until nobody waits for the bucket
}

const (
	checkWithin = 2 * time.Second
	firstRetry  = 100 * time.Millisecond
	lastRetry   = 10 * time.Second
)

// Tests are more patient.
var (
	openWithin = 5 * time.Second
	stopWithin = 2 * time.Second
)

var (
	errAway  = errors.New("NATS is away")
	errAgain = errors.New("NATS was away")
	errOther = errors.New("the bucket was made anew")
	errEnded = errors.New("the watch ended")
)

func newRevocations(b *Bus, c Control) *revocations {
	r := &revocations{
		b: b, log: b.log, sessions: c.Sessions,
		store: keyBucket{b, bucketName, "users whose tokens pushgate refuses", "revocations", c.RevocationTTL},
		pace:  pace{absent: 30 * time.Second, check: 5 * time.Second, giveUp: 10 * time.Second},
		poke:  make(chan struct{}, 1),
		queue: make(chan keeping, maxKeeping),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *revocations) start() {
	r.all.Go(r.run)
	for range keepers {
		r.all.Go(r.keepAll)
	}
}

// stop ends the goroutines. It needs the connection, and is for before its end.
func (r *revocations) stop() {
	r.cancel()
	r.all.Wait()
}

// look makes the following goroutine look at the connection and the bucket.
func (r *revocations) look() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// run follows the bucket until the bus ends.
func (r *revocations) run() {
	defer func() {
		if r.giveUp != nil {
			r.giveUp.Stop()
		}
	}()
	retry := firstRetry
	for r.ctx.Err() == nil {
		if !r.b.Connected() {
			r.wait(lastRetry)
			continue
		}
		if r.giveUp == nil {
			r.giveUp = time.AfterFunc(r.pace.giveUp, r.hopeless)
		}
		r.settled = false
		err := r.follow()
		r.watch.Store(false)
		r.bucket.Store(nil)
		if r.settled {
			retry = firstRetry
		}
		switch {
		case r.ctx.Err() != nil, errors.Is(err, errAway), errors.Is(err, errAgain):
			retry = firstRetry
		case noJetStream(err) && r.b.Connected():
			r.miss()
			r.wait(r.pace.absent)
		default:
			if !errors.Is(err, errOther) {
				r.complain("revocations cannot be read from NATS, trying again", r.b.clean(err))
			}
			r.wait(retry/2 + rand.N(retry))
			retry = min(2*retry, lastRetry)
		}
	}
}

// wait waits, unless something happens.
func (r *revocations) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.poke:
	case <-r.ctx.Done():
	}
}

// follow opens the bucket and applies what it holds and what comes, until
// something is wrong with it or with the connection, and says what.
func (r *revocations) follow() error {
	connection := r.b.reconnects.Load()
	bucket, info, err := r.store.open(r.ctx)
	if err != nil {
		return err
	}
	r.absent.Store(false)
	ctx, stop := context.WithCancel(r.ctx)
	defer stop()
	// The context is the watch's for life, and may not have a deadline.
	late := time.AfterFunc(openWithin, stop)
	watcher, err := bucket.WatchAll(ctx)
	if err != nil {
		late.Stop()
		return err
	}
	defer empty(watcher, stop)
	if !late.Stop() {
		return context.DeadlineExceeded
	}
	r.keys.Store(count(info))
	r.bucket.Store(&bucket)

	check := time.NewTicker(r.pace.check)
	defer check.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return errEnded
			case entry == nil:
				r.settle()
			default:
				r.apply(entry)
			}
		case <-r.poke:
			switch {
			case !r.b.Connected():
				return errAway
			case r.b.reconnects.Load() != connection:
				return errAgain
			}
			if err := r.sameBucket(ctx, info.Created); err != nil {
				return err
			}
		case <-check.C:
			if err := r.sameBucket(ctx, info.Created); err != nil {
				return err
			}
		}
	}
}

// empty ends a watch. Its callback waits for room, and would wait for ever.
func empty(w jetstream.KeyWatcher, stop context.CancelFunc) {
	stop() // and not Stop, which asks the server and waits for it
	limit := time.NewTimer(stopWithin)
	defer limit.Stop()
	for {
		select {
		case _, ok := <-w.Updates():
			if !ok {
				return
			}
		case <-limit.C:
			return
		}
	}
}

// settle notes that everything that the bucket held was applied.
func (r *revocations) settle() {
	r.settled = true
	r.watch.Store(true)
	if !r.loaded.Swap(true) || r.said != "" {
		r.log.Info("revocations are kept in NATS", zap.Int64("revocations", r.keys.Load()))
	}
	r.said = ""
}

// apply takes one value. That a key is deleted lifts nothing here.
func (r *revocations) apply(entry jetstream.KeyValueEntry) {
	if entry.Operation() != jetstream.KeyValuePut {
		return
	}
	user, err := bucketUser(entry.Key())
	var value bucketValue
	if err == nil {
		value, err = decodeValue(entry.Value())
	}
	if err != nil {
		r.log.Warn("a stored revocation is malformed and has no effect",
			zap.String("bucket", bucketName), zap.String("key", entry.Key()), zap.String("reason", err.Error()))
		return
	}
	if n := r.sessions.Revoke(user, value.IssuedBefore); n > 0 {
		r.log.Info("ended sessions by a stored revocation", zap.String("user", user), zap.Int("sessions", n))
	}
}

// complain logs what goes on, once.
func (r *revocations) complain(message, reason string) {
	r.why.Store(&reason)
	if r.said == message {
		return
	}
	r.said = message
	r.log.Warn(message, zap.String("reason", reason))
}

// miss notes that there is no JetStream, and that nobody need wait for it.
func (r *revocations) miss() {
	r.absent.Store(true)
	r.loaded.Store(true)
	r.complain("revocations hold on the gateways that run now and are forgotten when they restart", "NATS has no JetStream for this user")
}

// hopeless lets the gateway become ready without the stored revocations.
func (r *revocations) hopeless() {
	if r.ctx.Err() == nil && !r.loaded.Swap(true) {
		reason := "they are still coming"
		if why := r.why.Load(); why != nil {
			reason = *why
		}
		r.log.Error("stored revocations could not be read: until they are, users who were revoked before this start can connect",
			zap.String("reason", reason), zap.Duration("waited", r.pace.giveUp))
	}
}

// RevocationsLoaded reports whether the stored revocations were applied, or
// nobody should wait for them: there is no JetStream, no control service, or
// NATS has been connected for ten seconds and did not give them.
func (b *Bus) RevocationsLoaded() bool { return b.control == nil || b.control.known.loaded.Load() }
