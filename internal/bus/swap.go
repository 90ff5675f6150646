package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// conflictPause is the wait after a conflict, times how many there were: a
// replica that was asked may lag behind.
const conflictPause = 5 * time.Millisecond

// swap replaces a key's value by what change makes of it, nil where there is
// none. change is asked again when somebody else was quicker, and says whether
// there is anything to write.
func swap(ctx context.Context, bucket jetstream.KeyValue, key string, change func(old []byte) (value []byte, write bool)) error {
	for conflicts := 1; ; conflicts++ {
		var old []byte
		entry, err := bucket.Get(ctx, key)
		missing := errors.Is(err, jetstream.ErrKeyNotFound)
		switch {
		case err == nil:
			old = entry.Value()
		case !missing:
			return err
		}
		value, write := change(old)
		switch {
		case !write:
			return nil
		case missing:
			_, err = bucket.Create(ctx, key, value)
		default:
			_, err = bucket.Update(ctx, key, value, entry.Revision())
		}
		if !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return err
		}
		if !rest(ctx, time.Duration(conflicts)*conflictPause) {
			return ctx.Err()
		}
	}
}

// rest waits, and is false when the context ended meanwhile.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
