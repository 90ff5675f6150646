package session

import (
	"errors"
	"math/rand/v2"
	"time"
)

// ErrMoving is the answer to a rebalance while another is under way.
var ErrMoving = errors.New("a rebalance is under way here already")

// Rebalance moves a share of the sessions, chosen at random, as a drain does:
// over the window, each with its drain frame and 1001. It returns how many at
// once, and does the rest in the background. Polls move by themselves, with
// their next request.
func (h *Hub) Rebalance(share float64, window time.Duration) (int, error) {
	if !h.moving.CompareAndSwap(false, true) {
		return 0, ErrMoving
	}
	chosen := make([][]uint64, len(h.loops))
	n := 0
	for i, l := range h.loops {
		h.call(l, func(l *loop) { chosen[i] = l.choose(share) })
		n += len(chosen[i])
	}
	h.workers.Go(func() {
		defer h.moving.Store(false)
		h.move(chosen, window)
	})
	return n, nil
}

// choose picks a share of the loop's sessions, each as likely as any other.
func (l *loop) choose(share float64) []uint64 {
	left := int(l.stats.sessions[transportWebSocket].Load() + l.stats.sessions[transportSSE].Load())
	need := int(share*float64(left) + 0.5)
	var chosen []uint64
	for id := uint32(1); id < l.slots.top && need > 0; id++ {
		s := l.slots.at(id)
		if s.state != stateOpen || s.transport() == transportPoll {
			continue
		}
		if rand.IntN(left) < need {
			chosen = append(chosen, tagSession(id, s.gen))
			need--
		}
		left--
	}
	rand.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return chosen
}

// move closes the chosen sessions evenly over the window.
func (h *Hub) move(chosen [][]uint64, window time.Duration) {
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	pace := newSpread(time.Now(), window)
	for {
		share := pace.share(time.Now())
		for i, l := range h.loops {
			n := pace.due(share, len(chosen[i]))
			due := chosen[i][:n]
			chosen[i] = chosen[i][n:]
			if n > 0 {
				l.post(message{do: func(l *loop) { l.drainThese(due) }})
			}
		}
		if share == 1 {
			return
		}
		select {
		case <-tick.C:
		case <-h.quit:
			return
		}
	}
}

// drainThese drains sessions that are still there.
func (l *loop) drainThese(due []uint64) {
	for _, tag := range due {
		id, gen := uint32(tag), uint32(tag>>32)
		if s := l.slots.at(id); s.gen == gen && s.state == stateOpen {
			l.drainOne(id, s)
		}
	}
}
