package session

import (
	"context"
	"math/rand/v2"
	"time"

	"pushgate/api"
)

// stopListening begins the end: new handshakes are refused from now on.
func (h *Hub) stopListening() {
	h.draining.Store(true)
	if h.listener == nil {
		return
	}
	h.everywhere((*loop).unlisten)
	h.listener.Close()
}

// drainTick is how often a drain closes its share.
const drainTick = time.Second / 20

// hurryFor is how long clients may take to answer their close frame when the
// gateway was told to hurry.
const hurryFor = time.Second

// Drain closes the listener and all sessions, evenly over the window, each
// with its drain frame and 1001. It returns when all clients have answered or
// their time to do so is over; ctx ends the waiting, hurry, once closed, the
// spreading and most of the waiting.
func (h *Hub) Drain(ctx context.Context, window time.Duration, hurry <-chan struct{}) {
	h.stopListening()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	pace := newSpread(time.Now(), max(window-drainTick, 0)) // the last tick lies inside the window
	for {
		share := pace.share(time.Now())
		if h.open.Load() == 0 {
			share = 1 // nobody is left to be spread
		}
		h.everywhere(func(l *loop) { l.drainShare(pace.due(share, int(l.stats.open())), share == 1) })
		if share == 1 {
			break
		}
		select {
		case <-tick.C:
		case <-hurry:
			pace.end = time.Now()
		case <-ctx.Done():
			return
		}
	}
	var late <-chan time.Time
	for h.open.Load() > 0 {
		select {
		case <-tick.C:
		case <-hurry:
			hurry, late = nil, time.After(hurryFor)
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

// spread paces what is to be done over a window: evenly, the first at once, by
// the clock and not by how often it is asked.
type spread struct {
	last, end time.Time
	owed      float64 // what is due and not done; less than one, mostly
}

func newSpread(now time.Time, window time.Duration) spread {
	return spread{last: now, end: now.Add(window), owed: 1}
}

// share is what share of what is left is due by now; 1 at the end.
func (s *spread) share(now time.Time) float64 {
	left := s.end.Sub(s.last)
	if left <= 0 || !now.Before(s.end) {
		return 1
	}
	passed := now.Sub(s.last)
	s.last = now
	return float64(passed) / float64(left)
}

// due is how many of the n that are left in one place are due. What is left of
// a fraction goes to the next place, or to the next time.
func (s *spread) due(share float64, n int) int {
	if share == 1 {
		return n
	}
	s.owed += share * float64(n)
	k := min(int(s.owed), n)
	s.owed -= float64(k)
	return k
}

// drainShare closes so many of the loop's sessions. The last share is of all
// that are left.
func (l *loop) drainShare(quota int, last bool) {
	if last {
		// Whoever came meanwhile may sit in a slot that was passed already.
		l.refusing, l.drainAt = true, 0
		l.leavePollers()
	}
	for ; quota > 0 && l.drainAt < l.slots.top; l.drainAt++ {
		if l.drainAt == 0 {
			continue
		}
		s := l.slots.at(l.drainAt)
		if s.state != stateOpen {
			continue
		}
		l.drainOne(l.drainAt, s)
		quota--
	}
}

func (l *loop) drainOne(id uint32, s *slot) {
	after := time.Duration(rand.IntN(reconnectJitter)) * time.Millisecond
	l.reply(id, s, api.AppendDrain(beginFrame(nil), after, l.cursor(id, s)))
	l.close(id, s, api.ReasonDrain)
}

// reconnectJitter is the spread, in milliseconds, that clients add to a
// reconnect. The window spreads the closes; this only blurs their edges.
const reconnectJitter = 1000
