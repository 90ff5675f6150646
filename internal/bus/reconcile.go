package bus

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
)

const (
	infoWithin = 2 * time.Second
	// maxRing is how many events are fetched at the start, however small.
	maxRing = 200_000
)

var errEndsLower = errors.New("the stream ends before what it has given already")

// open makes sure that the stream is there and as it must be.
func (s *sequence) open() error {
	if s.opened {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, openWithin)
	defer cancel()
	err := s.archive.open(ctx)
	switch {
	case err == nil:
		s.opened = true
		s.lookAt = time.Time{}
		if s.why.Swap(nil) != nil {
			s.log.Info("the stream is open", zap.String("stream", s.cfg.Stream))
		}
	case s.b.Connected() && s.ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded):
		s.why.Store(&err)
	}
	return err
}

// look compares the stream with what has come of it. It costs one request, and
// never reads a message.
func (s *sequence) look() error {
	doubts := s.doubts.Load() // those that this look can settle
	s.b.mu.Lock()
	handed, claimed := max(s.order.next, 1)-1, s.order.newest
	s.b.mu.Unlock()

	ctx, cancel := context.WithTimeout(s.ctx, infoWithin)
	defer cancel()
	now, err := s.archive.info(ctx)
	if err != nil {
		return err
	}
	s.looks.Add(1)
	s.lookAt = time.Now().Add(s.pace.look)
	switch {
	case now.ID != s.id:
		s.begin(now)
		// Copies that came before this answer were not taken.
		s.lookAt = time.Now().Add(s.pace.tail)
	case now.Last < handed:
		// A new leader may not know its own end yet. For longer it is a store
		// that has lost its end, and gives its sequences again.
		if s.lower.IsZero() {
			s.lower = time.Now()
		}
		if time.Since(s.lower) < s.pace.look {
			return errEndsLower
		}
		s.rewind(now)
	case now.Last < claimed:
		// A lie, or a new leader again. Nothing is lost: ask once more.
		s.b.mu.Lock()
		s.order.disprove(now.Last)
		s.b.mu.Unlock()
		s.lookAt = time.Now().Add(s.pace.tail)
	}
	s.end = now.Last
	s.lower = time.Time{}
	s.settled.Store(doubts)
	s.expect(now.Last)
	return nil
}

// expect notes a sequence that is on its way, or missing.
func (s *sequence) expect(seq uint64) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.tail == 0 && seq > s.order.newest {
		s.tail, s.tailAt = seq, time.Now().Add(s.pace.tail)
	}
}

// checkTail notes that the expected sequence exists if its time is over and it
// has not come: catchUp fetches it.
func (s *sequence) checkTail() {
	if s.tail == 0 || time.Now().Before(s.tailAt) {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.order.know(s.tail)
	s.tail = 0
}

// begin goes over to a stream: the first one, or the one that has taken its
// name.
func (s *sequence) begin(now streamState) {
	next := ringStart(now, s.cfg.RingBytes)
	if s.id != "" {
		next = 1 // clients may have missed all of it
		s.log.Warn("the stream was made anew: what clients have missed of the old one is gone", zap.String("stream", s.cfg.Stream))
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.deliverAll() // what has come is of before
	s.id = now.ID
	s.restart(next, now.Last)
}

// rewind goes back with a stream that has lost its end. Which of the sequences
// that were handed on mean other events now, nobody knows.
func (s *sequence) rewind(now streamState) {
	s.log.Error("the stream has lost its newest events", zap.String("stream", s.cfg.Stream),
		zap.Uint64("handed_on", s.last.Load()), zap.Uint64("last", now.Last))
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.deliverAll()
	s.restart(now.Last+1, now.Last)
	s.lost.Add(1)
	s.b.sink.Lost(now.Last)
}

// restart begins behind a place. Bus.mu is held.
func (s *sequence) restart(next, newest uint64) {
	s.order.restart(next, newest, time.Time{})
	s.tail = 0
	s.note()
	s.b.sink.Stream(api.Position{Stream: s.id, Seq: next - 1}, newest)
}

// ringStart is the first of a stream's newest messages that have about so many
// bytes together.
func ringStart(now streamState, bytes int64) uint64 {
	var n uint64
	if now.Messages > 0 && bytes > 0 {
		n = min(uint64(bytes)/max(now.Bytes/now.Messages, 1), maxRing)
	}
	first := max(now.First, 1)
	if now.Last < n {
		return first
	}
	return max(first, now.Last-n+1)
}
