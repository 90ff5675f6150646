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

// drainSteps is how often a second a drain closes its share.
const drainSteps = 20

// Drain closes the listener and all sessions, evenly over the window, each
// with its drain frame and 1001. It returns when all clients have answered or
// their time to do so is over; ctx ends the waiting, hurry the spreading.
func (h *Hub) Drain(ctx context.Context, window time.Duration, hurry <-chan struct{}) {
	h.stopListening()
	steps := max(int(window*drainSteps/time.Second), 1)
	tick := time.NewTicker(time.Second / drainSteps)
	defer tick.Stop()
	for step := 1; step <= steps; step++ {
		left := steps - step
		h.everywhere(func(l *loop) { l.drainShare(left) })
		if left == 0 {
			break
		}
		if h.open.Load() == 0 {
			step = steps - 1 // nobody is left to be spread
			continue
		}
		select {
		case <-tick.C:
		case <-hurry:
			step = steps - 1
		case <-ctx.Done():
			return
		}
	}
	for h.open.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// drainShare closes what is due of the loop's sessions when so many steps are
// left behind this one.
func (l *loop) drainShare(left int) {
	if left == 0 {
		// Whoever came meanwhile may sit in a slot that was passed already.
		l.refusing, l.drainAt = true, 0
	}
	quota := (int(l.stats.open()) + left) / (left + 1)
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
	l.queue(id, s, finishText(api.AppendDrain(beginFrame(nil), after)))
	l.close(id, s, api.ReasonDrain)
}

// reconnectJitter is the spread, in milliseconds, that clients add to a
// reconnect. The window spreads the closes; this only blurs their edges.
const reconnectJitter = 1000
