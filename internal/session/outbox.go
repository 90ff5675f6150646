package session

import (
	"pushgate/api"
	"pushgate/internal/poll"
)

// traffic is what a session has beyond its slot while bytes are under way, in
// or out. It is given back as soon as there are none.
type traffic struct {
	out      []segment // to be written, oldest first
	outBytes int
	touched  bool // in loop.touched: written at the end of the tick
	full     bool // the socket is full: written when the poller says so

	in      []byte // the beginning of a frame
	message []byte // the text message whose fragments are coming
	partial bool   // a fragmented message is under way
}

// segment is whole frames, shared by everybody who receives them, and how much
// of them this session has got.
type segment struct {
	frames []byte
	sent   int
}

func (t *traffic) idle() bool {
	return len(t.out) == 0 && !t.touched && len(t.in) == 0 && !t.partial
}

// trafficOf returns the session's traffic and makes it where there is none.
func (l *loop) trafficOf(s *slot) *traffic {
	if s.active == 0 {
		if n := len(l.idleActive); n > 0 {
			s.active = l.idleActive[n-1]
			l.idleActive = l.idleActive[:n-1]
		} else {
			l.active = append(l.active, new(traffic))
			s.active = uint32(len(l.active) - 1)
		}
	}
	return l.active[s.active]
}

// keptBuffer is the largest buffer that a traffic keeps for its next owner.
const keptBuffer = 4 << 10

// settle gives the session's traffic back when nothing is under way.
func (l *loop) settle(s *slot) {
	if s.active == 0 || !l.active[s.active].idle() {
		return
	}
	l.release(s)
}

func (l *loop) release(s *slot) {
	t := l.active[s.active]
	clear(t.out[:cap(t.out)])
	l.stats.outbox.Add(-int64(t.outBytes))
	*t = traffic{out: t.out[:0], in: t.in[:0], message: t.message[:0]}
	if cap(t.out) > 64 {
		t.out = nil
	}
	if cap(t.in) > keptBuffer {
		t.in = nil
	}
	if cap(t.message) > keptBuffer {
		t.message = nil
	}
	l.idleActive = append(l.idleActive, s.active)
	s.active = 0
}

// queue adds whole frames to what session id is to get; they are written at
// the end of the tick. The caller must not change them afterwards. A session
// whose outbox would pass its limit is a slow consumer and is closed; an empty
// outbox takes anything.
func (l *loop) queue(id uint32, s *slot, frames []byte) bool {
	t := l.trafficOf(s)
	if t.outBytes > 0 && t.outBytes+len(frames) > l.hub.cfg.OutboxBytes {
		if !t.full {
			// It had no chance yet: many events came in this one tick.
			l.flush(id, s)
			if s.state != stateOpen {
				return false
			}
			t = l.trafficOf(s)
		}
		if t.outBytes > 0 && t.outBytes+len(frames) > l.hub.cfg.OutboxBytes {
			l.close(id, s, api.ReasonSlow)
			return false
		}
	}
	l.enqueue(id, t, frames)
	return true
}

// enqueue adds frames without looking at the limit.
func (l *loop) enqueue(id uint32, t *traffic, frames []byte) {
	t.out = append(t.out, segment{frames: frames})
	t.outBytes += len(frames)
	l.stats.outbox.Add(int64(len(frames)))
	if !t.touched {
		t.touched = true
		l.touched = append(l.touched, id)
	}
}

// send writes frames at once where nothing waits before them, which spares the
// outbox: the common case of a broadcast.
func (l *loop) send(id uint32, s *slot, frames []byte) bool {
	if s.active != 0 && len(l.active[s.active].out) > 0 {
		return l.queue(id, s, frames)
	}
	n, err := poll.Write(s.fd, frames)
	if n == len(frames) {
		return true
	}
	if err != nil && err != poll.ErrAgain {
		l.close(id, s, api.ReasonLost)
		return false
	}
	t := l.trafficOf(s)
	t.out = append(t.out, segment{frames: frames, sent: n})
	t.outBytes += len(frames) - n
	l.stats.outbox.Add(int64(len(frames) - n))
	l.waitForRoom(id, s, t)
	return true
}

// flushTouched ends a tick: each touched session is written once.
func (l *loop) flushTouched() {
	// A flush may close a session, and closing touches it again.
	for i := 0; i < len(l.touched); i++ {
		id := l.touched[i]
		s := l.slots.at(id)
		if s.active == 0 || !l.active[s.active].touched {
			continue
		}
		l.active[s.active].touched = false
		l.flush(id, s)
	}
	l.touched = l.touched[:0]
}

// flush writes what the session's outbox holds, as far as the socket takes it.
func (l *loop) flush(id uint32, s *slot) {
	t := l.active[s.active]
	if t.full {
		return
	}
	for len(t.out) > 0 {
		n, all, err := l.writeOut(s.fd, t.out)
		if err != nil && err != poll.ErrAgain {
			l.lost(id, s)
			return
		}
		l.advance(t, n)
		if n < all {
			l.waitForRoom(id, s, t)
			return
		}
	}
	if s.state != stateOpen {
		l.closeSent(id, s)
		return
	}
	l.settle(s)
}

// writeOut makes one write of as much as fits into the loop's scratch buffer.
// all is how much that was.
func (l *loop) writeOut(fd poll.FD, out []segment) (n, all int, err error) {
	b := out[0].frames[out[0].sent:]
	if len(out) > 1 && len(b) < len(l.scratch) {
		k := 0
		for _, seg := range out {
			rest := seg.frames[seg.sent:]
			if k+len(rest) > len(l.scratch) {
				break
			}
			k += copy(l.scratch[k:], rest)
		}
		b = l.scratch[:k]
	}
	n, err = poll.Write(fd, b)
	return n, len(b), err
}

// advance drops the n bytes that were written.
func (l *loop) advance(t *traffic, n int) {
	t.outBytes -= n
	l.stats.outbox.Add(-int64(n))
	done := 0
	for n > 0 {
		seg := &t.out[done]
		k := min(n, len(seg.frames)-seg.sent)
		seg.sent += k
		n -= k
		if seg.sent == len(seg.frames) {
			done++
		}
	}
	if done > 0 {
		kept := copy(t.out, t.out[done:])
		clear(t.out[kept:])
		t.out = t.out[:kept]
	}
}

// waitForRoom has the poller say when the socket takes more.
func (l *loop) waitForRoom(id uint32, s *slot, t *traffic) {
	if t.full {
		return
	}
	t.full = true
	if err := l.poller.Modify(s.fd, tagSession(id, s.gen), true, true); err != nil {
		l.lost(id, s)
	}
}

// onWritable goes on where the socket was full.
func (l *loop) onWritable(id uint32, s *slot) {
	if s.active == 0 || !l.active[s.active].full {
		return
	}
	l.active[s.active].full = false
	if err := l.poller.Modify(s.fd, tagSession(id, s.gen), true, false); err != nil {
		l.lost(id, s)
		return
	}
	l.flush(id, s)
}

// cutOutbox keeps of the outbox only the rest of a frame that the client has
// got the beginning of, so that a close frame can follow in order.
func (l *loop) cutOutbox(s *slot) {
	if s.active == 0 {
		return
	}
	t := l.active[s.active]
	if len(t.out) == 0 {
		return
	}
	first := t.out[0]
	clear(t.out)
	t.out = t.out[:0]
	l.stats.outbox.Add(-int64(t.outBytes))
	t.outBytes = 0
	end := 0
	for end < first.sent {
		end = frameEnd(first.frames, end)
	}
	if end > first.sent {
		t.out = append(t.out, segment{frames: first.frames[:end], sent: first.sent})
		t.outBytes = end - first.sent
		l.stats.outbox.Add(int64(t.outBytes))
	}
}
