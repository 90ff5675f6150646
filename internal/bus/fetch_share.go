package bus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// flights are the reads that are under way. Who wants the same waits for it.
type flights struct {
	mu  sync.Mutex
	now map[string]*flight
}

type flight struct {
	done chan struct{}
	got  stretch
	err  error
}

// share reads, or waits for the equal read that is under way.
func (f *fetcher) share(ctx context.Context, key string, do func() (stretch, error)) (stretch, error) {
	for {
		mine, other := f.shared.join(key)
		if mine != nil {
			mine.got, mine.err = do()
			f.shared.leave(key, mine)
			return mine.got, mine.err
		}
		f.stats.shared.Add(1)
		select {
		case <-other.done:
		case <-ctx.Done():
			return stretch{}, f.ended(ctx, errors.New("an equal read takes as long"))
		}
		if other.err == nil || hopeless(other.err) || ctx.Err() != nil {
			return other.got, other.err
		}
		// Its time was over. Ours is not.
	}
}

// join gives the flight to make, or the one to wait for.
func (s *flights) join(key string) (mine, other *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other = s.now[key]; other != nil {
		return nil, other
	}
	if s.now == nil {
		s.now = make(map[string]*flight)
	}
	mine = &flight{done: make(chan struct{})}
	s.now[key] = mine
	return mine, nil
}

func (s *flights) leave(key string, mine *flight) {
	s.mu.Lock()
	delete(s.now, key)
	s.mu.Unlock()
	close(mine.done)
}

// looks are STREAM.INFO requests: one under way, and behind it one for all who
// came meanwhile. So each answer is younger than the question.
type looks struct {
	mu    sync.Mutex
	next  *asking // nobody has sent it yet
	going bool
	last  atomic.Pointer[streamState]
}

type asking struct {
	done  chan struct{}
	state streamState
	err   error
}

// ask asks the leader what the stream is.
func (f *fetcher) ask(ctx context.Context) (streamState, error) {
	l := &f.looks
	l.mu.Lock()
	if l.next == nil {
		l.next = &asking{done: make(chan struct{})}
	}
	a := l.next
	if !l.going {
		l.going = true
		f.all.Go(f.askAll) // all is not done: we are part of it
	}
	l.mu.Unlock()
	select {
	case <-a.done:
		return a.state, a.err
	case <-ctx.Done():
		return streamState{}, ctx.Err()
	}
}

// askAll asks as long as somebody wants to know.
func (f *fetcher) askAll() {
	l := &f.looks
	for {
		ctx, leave, err := f.enter(f.ctx)
		l.mu.Lock()
		a := l.next // who came until now, when it is sent
		l.next = nil
		l.mu.Unlock()
		if err == nil {
			a.state, err = f.stream.info(ctx)
			leave()
		}
		a.err = err
		if err == nil {
			l.last.Store(&a.state)
		}
		close(a.done)

		l.mu.Lock()
		l.going = l.next != nil
		again := l.going
		l.mu.Unlock()
		if !again {
			return
		}
	}
}
