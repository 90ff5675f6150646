package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"pushgate/api"
)

// page builds what was asked for.
func (f *fetcher) page(ctx context.Context, r api.Fetch) (api.Page, error) {
	var page api.Page
	var err error
	if r.Last {
		page, err = f.newest(ctx, r)
	} else {
		page, err = f.merge(ctx, r)
	}
	if err != nil {
		return page, err
	}
	state, err := f.look(ctx, r.Stream)
	page.Trimmed = !r.Last && state.First > r.After+1
	return page, err
}

// reach waits until the leader is known to have everything up to through. A
// leader that comes after it then has it too.
func (f *fetcher) reach(ctx context.Context, id string, through uint64) error {
	if last := f.looks.last.Load(); last != nil && last.ID == id && last.Last >= through {
		return nil
	}
	return f.insist(ctx, func() error {
		state, err := f.ask(ctx)
		switch {
		case err != nil:
			return err
		case state.ID != id:
			return api.ErrOtherStream
		case state.Last < through:
			f.stats.lagged.Add(1)
			return fmt.Errorf("stream %q has reached %d and not yet %d", f.stream.Name, state.Last, through)
		}
		return nil
	})
}

// look asks the leader what the stream is now, and insists on its being the one
// that is meant.
func (f *fetcher) look(ctx context.Context, id string) (state streamState, err error) {
	err = f.insist(ctx, func() error {
		if state, err = f.ask(ctx); err == nil && state.ID != id {
			err = api.ErrOtherStream
		}
		return err
	})
	return state, err
}

const (
	firstPause = 4 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// insist tries until it works, is hopeless, or the time is over.
func (f *fetcher) insist(ctx context.Context, try func() error) error {
	for n := 0; ; n++ {
		err := try()
		if err == nil || hopeless(err) {
			return err
		}
		if !pause(ctx, n) {
			return f.ended(ctx, err)
		}
	}
}

// hopeless tells that trying again would change nothing.
func hopeless(err error) bool {
	return errors.Is(err, api.ErrOtherStream) || errors.Is(err, api.ErrTooMany) ||
		errors.Is(err, ErrStreamMissing) || errors.Is(err, errForeign)
}

// pause waits, longer each time and spread by half. It is false when the time is
// over.
func pause(ctx context.Context, n int) bool {
	d := min(firstPause<<min(n, 10), lastPause)
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ended is the error of what was not done in its time because of err.
func (f *fetcher) ended(ctx context.Context, err error) error {
	if f.ctx.Err() != nil {
		return errClosed
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stored events could not be got within %s: %w", fetchWithin, err)
	}
	return err
}

// enter waits for one of the requests that may be under way at NATS. The context
// is the request's; leave ends both.
func (f *fetcher) enter(ctx context.Context) (request context.Context, leave func(), err error) {
	select {
	case f.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if !f.b.Connected() {
		<-f.slots
		return nil, nil, errAway
	}
	f.stats.requests.Add(1)
	request, cancel := context.WithTimeout(ctx, requestWithin)
	return request, func() { cancel(); <-f.slots }, nil
}
