package bus

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
)

const (
	pageWithin = 5 * time.Second
	// pageBytes is how much a repair fetches at once.
	pageBytes = 1 << 20
	// lastRepairRetry is the longest wait between two attempts: somebody is
	// waiting for the events.
	lastRepairRetry = 2 * time.Second
)

var errNoProgress = errors.New("the stream gives nothing of what is missing")

// run keeps up with the stream until the bus ends.
func (s *sequence) run() {
	defer func() {
		if s.giveUp != nil {
			s.giveUp.Stop()
		}
	}()
	select {
	case <-s.b.started:
	case <-s.ctx.Done():
	}
	retry := firstRetry
	for s.ctx.Err() == nil {
		if !s.b.Connected() {
			// Patience is for a NATS that is there.
			s.trouble, s.lower, retry = time.Time{}, time.Time{}, firstRetry
			s.wait(lastRetry)
			continue
		}
		if s.giveUp == nil {
			s.giveUp = time.AfterFunc(s.pace.giveUp, s.hopeless)
		}
		if err := s.step(); err != nil {
			s.fail(err)
			s.wait(retry/2 + rand.N(retry))
			retry = min(2*retry, lastRepairRetry)
			continue
		}
		s.said, s.trouble, retry = "", time.Time{}, firstRetry
		s.wait(s.rest())
	}
}

// wait waits, unless something happens.
func (s *sequence) wait(d time.Duration) {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.poke:
	case <-s.ctx.Done():
	}
}

// step does what there is to do now.
func (s *sequence) step() error {
	if err := s.open(); err != nil {
		return err
	}
	if s.asked.Swap(false) || s.inDoubt() || !time.Now().Before(s.lookAt) {
		if err := s.look(); err != nil {
			return err
		}
	}
	s.checkTail()
	before := s.repaired.Load()
	if err := s.catchUp(); err != nil {
		return err
	}
	if n := s.repaired.Load() - before; n > 0 {
		s.log.Info("fetched stored events", zap.Int64("events", n), zap.Uint64("through", s.last.Load()))
	}
	if !s.inDoubt() {
		s.ready.Store(true)
	}
	return nil
}

// rest is how long nothing is due.
func (s *sequence) rest() time.Duration {
	at := s.lookAt
	if s.tail != 0 && s.tailAt.Before(at) {
		at = s.tailAt
	}
	return time.Until(at)
}

// catchUp fetches and hands on until nothing is missing and nothing waits.
func (s *sequence) catchUp() error {
	for s.ctx.Err() == nil {
		r, missing := s.release()
		if !missing {
			return nil
		}
		if r.Through > s.end {
			// So far it exists by the word of a message only.
			if err := s.look(); err != nil {
				return err
			}
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, pageWithin)
		page, err := s.archive.fetch(ctx, r)
		cancel()
		switch {
		case errors.Is(err, api.ErrOtherStream):
			s.doubt()
			return err
		case err != nil:
			return err
		case page.Through <= r.After && len(page.Events) == 0:
			return errNoProgress
		}
		s.handOn(page)
		s.trouble = time.Time{}
	}
	return s.ctx.Err()
}

// release hands on what waits and is due, and says what is missing before the
// rest. While it does, who brings live events gets a turn after each batch.
func (s *sequence) release() (r api.Fetch, missing bool) {
	for {
		if s.inDoubt() {
			return r, false
		}
		s.b.mu.Lock()
		events := s.order.ready(maxBatch)
		if len(events) == 0 {
			after, through, missing := s.order.gap()
			s.b.mu.Unlock()
			return api.Fetch{Stream: s.id, Subjects: []string{">"}, After: after, Through: through, Bytes: pageBytes}, missing
		}
		for i := range events {
			events[i].Cursor = s.cursor(events[i].Seq)
		}
		s.b.sink.Deliver(events)
		clear(events)
		s.note()
		s.b.mu.Unlock()
	}
}

// handOn hands a page to the sink, and says what the stream had let go before it
// could be read: of what lies before the page, and, where it was cut while the
// page was read in pieces, between them.
func (s *sequence) handOn(page api.Page) {
	const trimmed = "the stream does not reach back to them any more"
	events := page.Events
	if page.Trimmed {
		at := lastHole(events)
		if at > 0 {
			s.lose(events[0].Seq-1, trimmed)
			s.give(events[:at], events[at-1].Seq)
			events = events[at:]
		}
		first := page.Through + 1
		if len(events) > 0 {
			first = events[0].Seq
		}
		s.lose(first-1, trimmed)
	}
	s.give(events, page.Through)
}

// lastHole is the place of the last event that does not follow the one before
// it, 0 for none.
func lastHole(events []api.Event) int {
	for i := len(events) - 1; i > 0; i-- {
		if events[i].Seq != events[i-1].Seq+1 {
			return i
		}
	}
	return 0
}

// give hands on events that follow each other, and with them all up to a
// sequence.
func (s *sequence) give(events []api.Event, through uint64) {
	for {
		n := min(len(events), maxBatch)
		s.b.mu.Lock()
		if n > 0 {
			s.b.sink.Deliver(events[:n])
			s.order.pass(events[n-1].Seq)
			s.order.when = events[n-1].Time
			s.repaired.Add(int64(n))
		}
		if events = events[n:]; len(events) == 0 {
			s.order.pass(through)
		}
		s.note()
		s.b.mu.Unlock()
		if len(events) == 0 {
			return
		}
	}
}

// lose tells the sink that events up to a sequence will not come, unless there
// are none.
func (s *sequence) lose(through uint64, reason string) {
	s.b.mu.Lock()
	from := s.order.next
	if through >= from {
		s.order.pass(through)
		s.lost.Add(1)
		s.note()
		s.b.sink.Lost(through)
	}
	s.b.mu.Unlock()
	if through < from {
		return
	}
	s.log.Warn("stored events could not be got", zap.Uint64("from", from), zap.Uint64("through", through), zap.String("reason", reason))
}

// fail notes what went wrong. After a while everybody goes on without what is
// missing.
func (s *sequence) fail(err error) {
	if !errors.Is(err, errEndsLower) {
		s.lower = time.Time{} // who answers next may be another leader
	}
	if s.ctx.Err() != nil || !s.b.Connected() {
		return
	}
	s.opened = false // look at everything again
	if s.said != err.Error() {
		s.said = err.Error()
		s.log.Warn("the stream cannot be read, trying again", zap.String("stream", s.cfg.Stream), zap.String("reason", s.b.clean(err)))
	}
	switch {
	case s.trouble.IsZero():
		s.trouble = time.Now()
	case time.Since(s.trouble) > s.pace.patience && s.id != "":
		s.trouble = time.Time{}
		s.settled.Store(s.doubts.Load())
		s.b.mu.Lock()
		_, through, missing := s.order.gap()
		s.b.mu.Unlock()
		if missing {
			s.lose(through, s.b.clean(err))
		}
		s.release()
	}
}

// hopeless lets the gateway become ready without the newest stored events: NATS
// does not give them. Not so where the stream is not what it must be: that is
// somebody's to mend, before clients come.
func (s *sequence) hopeless() {
	if s.ctx.Err() != nil {
		return
	}
	reason := "they are still coming"
	if why := s.why.Load(); why != nil {
		if Misconfigured(*why) {
			return // the log and readiness say so
		}
		reason = s.b.clean(*why)
	}
	if !s.ready.Swap(true) {
		s.log.Error("stored events could not be read: until they are, clients get no stored events, new or old",
			zap.String("reason", reason), zap.Duration("waited", s.pace.giveUp))
	}
}
