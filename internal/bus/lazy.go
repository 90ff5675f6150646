package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// lazyBucket is a bucket that is opened when somebody needs it, and again after
// each outage and when it failed.
type lazyBucket struct {
	keyBucket
	absentPause time.Duration // before JetStream is looked for again
	absent      atomic.Bool   // there is no JetStream

	turn chan struct{} // of one: whoever has put something in may touch the rest
	now  jetstream.KeyValue
	on   int64 // the connection it was opened on

	// After a failure nobody tries before again, and all get err.
	err   error
	again time.Time
	retry time.Duration
	said  string // the last complaint
}

func newLazyBucket(k keyBucket) *lazyBucket {
	return &lazyBucket{keyBucket: k, absentPause: 10 * time.Second, turn: make(chan struct{}, 1), retry: firstRetry}
}

// get returns the open bucket. The waiting ends with ctx; opening, which is for
// all, only with life.
func (l *lazyBucket) get(ctx, life context.Context) (jetstream.KeyValue, error) {
	if !l.b.Connected() {
		return nil, errAway
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if on := l.b.reconnects.Load(); on != l.on {
		l.on, l.now, l.err, l.retry = on, nil, nil, firstRetry
	}
	switch {
	case l.now != nil:
		return l.now, nil
	case l.err != nil && time.Now().Before(l.again):
		return nil, l.err
	}
	if l.now, _, l.err = l.open(life); l.err != nil {
		l.now = nil
		l.failed()
		return nil, l.err
	}
	l.absent.Store(false)
	l.retry = firstRetry
	if l.said != "" {
		l.said = ""
		l.b.log.Info(l.what + " are kept in NATS")
	}
	return l.now, nil
}

// failed notes that the bucket could not be opened.
func (l *lazyBucket) failed() {
	switch {
	case errors.Is(l.err, context.Canceled):
	case noJetStream(l.err) && l.b.Connected():
		l.absent.Store(true)
		l.again = time.Now().Add(l.absentPause)
		l.complain(l.what+" are not kept", "NATS has no JetStream for this user")
	default:
		l.again = time.Now().Add(l.retry)
		l.retry = min(2*l.retry, lastRetry)
		l.complain(l.what+" cannot be kept in NATS, trying again", l.b.clean(l.err))
	}
}

// complain logs what goes on, once.
func (l *lazyBucket) complain(message, reason string) {
	if l.said != message {
		l.said = message
		l.b.log.Warn(message, zap.String("reason", reason))
	}
}

// suspect makes the next get open the bucket again: it did not work and may be
// gone.
func (l *lazyBucket) suspect(bucket jetstream.KeyValue) {
	l.turn <- struct{}{}
	if l.now == bucket {
		l.now = nil
	}
	<-l.turn
}
