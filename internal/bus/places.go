package bus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
)

const (
	placesName = "pushgate_acks"

	// gatherPlaces is how long a place waits for newer ones before it is
	// written: clients acknowledge far more often than anybody looks.
	gatherPlaces = 250 * time.Millisecond
	// tryWithin bounds one attempt: an answer that an outage has swallowed
	// never comes.
	tryWithin = time.Second
	tryPause  = 50 * time.Millisecond

	placeWriters = 8
	// maxPlaceUsers is how many users' places wait.
	maxPlaceUsers = 16 << 10
)

// placeWithin bounds the writing of a place when it has waited. Tests are more
// patient.
var placeWithin = 5 * time.Second

// places are a JetStream bucket that every gateway reads and writes: how far
// each user's devices have come. Places wait here by user and are written by a
// few goroutines, all of a user's at once.
type places struct {
	b       *Bus
	bucket  *lazyBucket
	gather  time.Duration
	refresh int64 // seconds after which the same place is written again

	mu      sync.Mutex
	users   map[string]*onWay
	stopped bool

	queue   chan turn // each user once, in the order of due
	lookups chan *lookup
	closing chan struct{}
	ctx     context.Context // ends when closing takes too long
	cancel  context.CancelFunc
	all     sync.WaitGroup // of the goroutines

	kept, failed atomic.Int64
	said         atomic.Int64 // Unix time of the last complaint
}

// onWay are the places of a user that are not stored yet.
type onWay struct {
	next devices
	now  devices // being written, and not changed any more
}

// turn is a user whose places are to be written.
type turn struct {
	user string
	due  time.Time
}

func newPlaces(b *Bus, ttl time.Duration) *places {
	p := &places{
		b: b, gather: gatherPlaces, refresh: int64(ttl / time.Second / 2),
		bucket:  newLazyBucket(keyBucket{b, placesName, "how far the devices of pushgate's users have come", "acknowledged places", ttl}),
		users:   make(map[string]*onWay),
		queue:   make(chan turn, maxPlaceUsers),
		lookups: make(chan *lookup, maxLookups),
		closing: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

func (p *places) start() {
	for range placeWriters {
		p.all.Go(func() { serve(p.queue, p.closing, p.write) })
	}
	for range placeReaders {
		p.all.Go(func() { serve(p.lookups, p.closing, p.look) })
	}
}

// serve does what comes, and after closing what is left.
func serve[T any](queue <-chan T, closing <-chan struct{}, do func(T)) {
	for {
		select {
		case x := <-queue:
			do(x)
		case <-closing:
			if len(queue) == 0 {
				return
			}
		}
	}
}

// stop writes what waits, as long as NATS is there and for stopWithin. It needs
// the connection, and is for before its end.
func (p *places) stop() {
	p.mu.Lock()
	again := p.stopped
	p.stopped = true
	p.mu.Unlock()
	if again {
		return
	}
	close(p.closing)
	if !p.b.Connected() {
		p.cancel()
	}
	late := time.AfterFunc(stopWithin, p.cancel)
	p.all.Wait()
	late.Stop()
	p.cancel()
}

// keep is Bus.Keep.
func (p *places) keep(user, device string, at api.Position) {
	cursor := at.Cursor()
	if _, ok := api.ParseCursor(cursor); !ok || checkUser(user) != nil {
		return // nobody could find it again
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now, w := time.Now(), p.users[user]
	switch {
	case p.stopped:
		p.fail(1, errors.New("the gateway is stopping"))
		return
	case w == nil && len(p.users) == maxPlaceUsers:
		p.fail(1, errors.New("too many come at once"))
		return
	case w == nil:
		w = &onWay{next: make(devices)}
		p.users[user] = w
		p.queue <- turn{user, now.Add(p.gather)} // it holds as many as users
	}
	w.next.put(device, place{cursor, now.Unix()}, p.refresh)
}

// waiting are the places of a user that are not stored yet.
func (p *places) waiting(user string) devices {
	all := make(devices)
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.users[user]; w != nil {
		all.putAll(w.now, p.refresh)
		all.putAll(w.next, p.refresh)
	}
	return all
}

// write stores the places of a user, when they are due.
func (p *places) write(t turn) {
	due := time.NewTimer(time.Until(t.due))
	select {
	case <-due.C:
	case <-p.closing:
		due.Stop()
	}
	p.mu.Lock()
	w := p.users[t.user]
	w.now, w.next = w.next, make(devices)
	p.mu.Unlock()

	if err := p.store(t.user, w.now, t.due.Add(placeWithin)); err != nil {
		p.fail(len(w.now), err)
	} else {
		p.kept.Add(int64(len(w.now)))
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if w.now = nil; len(w.next) == 0 {
		delete(p.users, t.user)
		return
	}
	p.queue <- turn{t.user, time.Now().Add(p.gather)}
}

// store tries until it succeeds, it is too late or it is hopeless.
func (p *places) store(user string, d devices, until time.Time) error {
	ctx, cancel := context.WithDeadline(p.ctx, until)
	defer cancel()
	for {
		err := p.try(ctx, user, d)
		if err == nil || p.bucket.absent.Load() || !rest(ctx, tryPause) {
			return err
		}
	}
}

func (p *places) try(ctx context.Context, user string, d devices) error {
	bucket, err := p.bucket.get(ctx, p.ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	err = swap(ctx, bucket, bucketKey(user), func(old []byte) ([]byte, bool) { return d.over(old, p.refresh) })
	if err != nil {
		p.bucket.suspect(bucket)
	}
	return err
}

// fail counts places that are lost, and says so once a minute. That there is no
// JetStream was said already.
func (p *places) fail(n int, err error) {
	p.failed.Add(int64(n))
	now, last := time.Now().Unix(), p.said.Load()
	if !p.bucket.absent.Load() && now-last >= 60 && p.said.CompareAndSwap(last, now) {
		p.b.log.Warn("acknowledged places are lost", zap.Int64("so_far", p.failed.Load()), zap.String("reason", p.b.clean(err)))
	}
}
