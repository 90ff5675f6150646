package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"pushgate/api"
)

// lookWithin is a little less than what Bus.Place promises. Tests are more
// patient.
var lookWithin = 1800 * time.Millisecond

const (
	placeReaders = 16
	maxLookups   = 4096
)

// lookup is a place that somebody wants to know.
type lookup struct {
	user, device string
	until        time.Time
	late         *time.Timer // answers when nobody else has
	answered     atomic.Bool
	done         func(api.Position, bool)
}

// answer calls done, unless that was done.
func (l *lookup) answer(d devices) {
	if l.answered.Swap(true) {
		return
	}
	// What is unknown has no cursor, which is malformed.
	l.done(api.ParseCursor(d[l.device].Cursor))
}

// find is Bus.Place.
func (p *places) find(user, device string, done func(api.Position, bool)) {
	l := &lookup{user: user, device: device, until: time.Now().Add(lookWithin), done: done}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || len(p.lookups) == cap(p.lookups) {
		go l.answer(nil)
		return
	}
	l.late = time.AfterFunc(lookWithin, func() { l.answer(p.waiting(user)) })
	p.lookups <- l // only who has the lock puts something in
}

// look answers a lookup.
func (p *places) look(l *lookup) {
	defer l.late.Stop()
	if l.answered.Load() {
		return
	}
	// First what waits: what is written from now on is found in the bucket.
	waiting := p.waiting(l.user)
	all := p.read(l)
	all.putAll(waiting, p.refresh)
	l.answer(all)
}

// read gets a user's stored places. None are known when that fails.
func (p *places) read(l *lookup) devices {
	ctx, cancel := context.WithDeadline(p.ctx, l.until)
	defer cancel()
	for range 2 { // once more with a bucket that is opened again
		bucket, err := p.bucket.get(ctx, p.ctx)
		if err != nil {
			break
		}
		entry, err := bucket.Get(ctx, bucketKey(l.user))
		switch {
		case err == nil:
			if d, err := decodeDevices(entry.Value()); err == nil {
				return d
			}
			return make(devices)
		case errors.Is(err, jetstream.ErrKeyNotFound):
			return make(devices)
		}
		p.bucket.suspect(bucket)
	}
	return make(devices)
}
