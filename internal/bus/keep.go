package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// keepWithin bounds the storing of one revocation, its wait included. Tests are
// more patient.
var keepWithin = 2 * time.Second

const (
	// keepers is how many revocations are stored at the same time.
	keepers = 16
	// maxKeeping is how many wait for that.
	maxKeeping = 4096
)

// keeping is a revocation on its way into the bucket.
type keeping struct {
	user         string
	issuedBefore int64
	until        time.Time
	done         func(error)
}

// keep stores a revocation and calls done, once, on whatever goroutine, with
// nil or with what went wrong in words. It never waits.
func (r *revocations) keep(user string, issuedBefore int64, done func(error)) {
	select {
	case r.queue <- keeping{user, issuedBefore, time.Now().Add(keepWithin), done}:
	default:
		done(errors.New("too many come at once"))
	}
}

func (r *revocations) keepAll() {
	for {
		select {
		case k := <-r.queue:
			k.done(r.put(k))
		case <-r.ctx.Done():
			return
		}
	}
}

// put is keep's work. Its errors are for people.
func (r *revocations) put(k keeping) error {
	bucket := r.bucket.Load()
	switch {
	case bucket == nil && r.absent.Load():
		return errors.New("NATS has no JetStream")
	case bucket == nil:
		return errors.New("the bucket " + bucketName + " is not open yet")
	}
	ctx, cancel := context.WithDeadline(r.ctx, k.until)
	defer cancel()
	err := raiseTo(ctx, *bucket, bucketKey(k.user), bucketValue{IssuedBefore: k.issuedBefore})
	switch {
	case err == nil:
		return nil
	case r.ctx.Err() != nil:
		return errors.New("the gateway is stopping")
	}
	r.look() // the bucket may be gone
	r.log.Debug("storing a revocation failed", zap.String("reason", r.b.clean(err)))
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("JetStream did not confirm it within %s", keepWithin)
	}
	return fmt.Errorf("JetStream refused it (%s)", strings.TrimPrefix(r.b.clean(err), "nats: "))
}

// raiseTo stores a value unless one as late is stored. Every gateway gets the
// same request, and one of them writes; a value is never lowered.
func raiseTo(ctx context.Context, bucket jetstream.KeyValue, key string, value bucketValue) error {
	return swap(ctx, bucket, key, func(old []byte) ([]byte, bool) {
		// What is malformed is replaced: nobody could obey it.
		stored, err := decodeValue(old)
		return value.encode(), err != nil || stored.IssuedBefore < value.IssuedBefore
	})
}
