package session

import (
	"github.com/gobwas/ws"

	"pushgate/api"
	"pushgate/internal/poll"
)

// traffic is what a session has beyond its slot while bytes are under way, in
// or out. It is given back as soon as there are none.
type traffic struct {
	out      []segment // to be written, oldest first
	outBytes int
	gaps     []gap
	owner    uint32 // the session
	waits    bool   // some event in out may have to be taken back
	touched  bool   // in loop.touched: written at the end of the tick
	full     bool   // the socket is full: written when the poller says so

	in []byte // the beginning of a header, or of a control frame

	// The message that is coming.
	message  []byte // what has come of it
	valid    int    // so much of it is known to be good text
	partial  bool   // there is one
	op       ws.OpCode
	deflated bool

	// Its frame that is coming.
	left   int64 // bytes
	mask   [4]byte
	masked int // which byte of the mask is next
	fin    bool
}

// segment is whole frames, shared by everybody who receives them, and how much
// of them this session has got.
type segment struct {
	frames []byte
	sent   int
	event  *delivery // where it may still be taken back; else nil
}

func (t *traffic) idle() bool {
	return len(t.out) == 0 && len(t.gaps) == 0 && !t.touched && !t.full && len(t.in) == 0 && !t.partial
}

// trafficOf returns the session's traffic and makes it where there is none.
func (l *loop) trafficOf(id uint32, s *slot) *traffic {
	if s.active == 0 {
		if n := len(l.idleActive); n > 0 {
			s.active = l.idleActive[n-1]
			l.idleActive = l.idleActive[:n-1]
		} else {
			l.active = append(l.active, new(traffic))
			s.active = uint32(len(l.active) - 1)
		}
		l.active[s.active].owner = id
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
	if t.full {
		l.stats.stalled.Add(-1)
	}
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
	return l.queueSegment(id, s, segment{frames: frames})
}

// queueEvent does the same with an event.
func (l *loop) queueEvent(id uint32, s *slot, d *delivery) bool {
	seg := segment{frames: d.encoded(s.encoding())}
	if s.transport() == transportPoll && d.event.Seq > 0 && l.leavesFor(s, len(seg.frames)) {
		return false
	}
	if d.waits() {
		seg.event = d
		if s.active != 0 {
			l.takeBack(s, func(older *delivery) bool { return d.replaces(older) }, DropCollapsed)
		}
	}
	if !l.queueSegment(id, s, seg) {
		return false
	}
	if s.transport() == transportPoll {
		p := l.pollOf(s)
		p.last = max(p.last, d.event.Seq)
	}
	return true
}

// takeBack drops unsent events from a session's outbox.
func (l *loop) takeBack(s *slot, drop func(*delivery) bool, cause DropCause) {
	t := l.active[s.active]
	if !t.waits {
		return
	}
	kept := t.out[:0]
	t.waits = false
	for _, seg := range t.out {
		if seg.event != nil && seg.sent == 0 && drop(seg.event) {
			t.outBytes -= len(seg.frames)
			l.stats.outbox.Add(-int64(len(seg.frames)))
			l.hub.drops[cause].Add(1)
			l.noteEvent(wasDropped, cause, s, seg.event)
			continue
		}
		t.waits = t.waits || seg.event != nil
		kept = append(kept, seg)
	}
	clear(t.out[len(kept):])
	t.out = kept
}

func (l *loop) queueSegment(id uint32, s *slot, seg segment) bool {
	t := l.trafficOf(id, s)
	if l.overfull(s, t, seg) {
		if !t.full {
			// It had no chance yet: many events came in this one tick.
			l.flush(id, s)
			if s.state != stateOpen {
				return false
			}
			t = l.trafficOf(id, s)
		}
		if l.overfull(s, t, seg) && !l.makeRoom(s, t, len(seg.frames)) {
			if seg.event != nil && seg.event.policy != PolicyDisconnect {
				l.noteDrop(s, t, seg.event)
				return false
			}
			l.close(id, s, api.ReasonSlow)
			return false
		}
	}
	l.enqueue(id, t, seg)
	return true
}

// overfull reports whether an outbox has no room for one more. An empty one
// takes anything.
func (l *loop) overfull(s *slot, t *traffic, seg segment) bool {
	return t.outBytes > 0 && t.held()+len(seg.frames)+segmentCost > l.outboxLimit(s)
}

// enqueue adds frames without looking at the limit.
func (l *loop) enqueue(id uint32, t *traffic, seg segment) {
	t.out = append(t.out, seg)
	t.waits = t.waits || seg.event != nil
	t.outBytes += len(seg.frames)
	l.stats.outbox.Add(int64(len(seg.frames)))
	l.touch(id, t)
}

// touch has a session looked at when the tick ends.
func (l *loop) touch(id uint32, t *traffic) {
	if !t.touched {
		t.touched = true
		l.touched = append(l.touched, id)
	}
}

// send writes the frames of events at once where nothing waits before them,
// which spares the outbox: the common case of a broadcast. d is the first of
// them, and the only one if it may have to be taken back.
func (l *loop) send(id uint32, s *slot, frames []byte, d *delivery) bool {
	if s.active != 0 && len(l.active[s.active].out) > 0 {
		if d.waits() {
			return l.queueEvent(id, s, d)
		}
		return l.queue(id, s, frames)
	}
	n, err := l.writeSession(s, frames)
	if n == len(frames) {
		if l.holdsBack(s) {
			l.waitForRoom(id, s, l.trafficOf(id, s))
		}
		return true
	}
	if err != nil && err != poll.ErrAgain {
		l.close(id, s, api.ReasonLost)
		return false
	}
	t := l.trafficOf(id, s)
	seg := segment{frames: frames, sent: n}
	if d.waits() {
		seg.event, t.waits = d, true
	}
	t.out = append(t.out, seg)
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
	if s.state == stateOpen && s.transport() == transportPoll {
		l.flushPoll(id, s, t)
		return
	}
	if t.waits {
		l.takeBack(s, func(d *delivery) bool { return d.stale(l.now) }, DropExpired)
	}
	l.tellGaps(s, t)
	for len(t.out) > 0 {
		n, all, err := l.writeOut(s, t.out)
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
	if l.holdsBack(s) {
		l.waitForRoom(id, s, t)
		return
	}
	if s.state != stateOpen {
		l.closeSent(id, s)
		return
	}
	if s.flags&flagReplays != 0 {
		l.pullLater(tagSession(id, s.gen)) // it has room for more
	}
	l.settle(s)
}

// writeOut makes one write of as much as fits into the loop's scratch buffer.
// all is how much that was.
func (l *loop) writeOut(s *slot, out []segment) (n, all int, err error) {
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
	n, err = l.writeSession(s, b)
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
	l.stats.stalled.Add(1)
	l.stats.stalls.Add(1)
	if err := l.poller.Modify(s.fd, tagSession(id, s.gen), true, true); err != nil {
		l.lost(id, s)
	}
}

// onWritable goes on where the socket was full.
func (l *loop) onWritable(id uint32, s *slot) {
	if s.active == 0 || !l.active[s.active].full {
		return
	}
	if s.flags&flagTLS != 0 && !l.pushSession(id, s) {
		return
	}
	l.active[s.active].full = false
	l.stats.stalled.Add(-1)
	if err := l.poller.Modify(s.fd, tagSession(id, s.gen), true, false); err != nil {
		l.lost(id, s)
		return
	}
	l.flush(id, s)
}

// emptyOutbox forgets what a session was to get.
func (l *loop) emptyOutbox(s *slot) {
	if s.active == 0 {
		return
	}
	t := l.active[s.active]
	clear(t.out)
	t.out, t.waits, t.gaps = t.out[:0], false, nil
	l.stats.outbox.Add(-int64(t.outBytes))
	t.outBytes = 0
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
	l.emptyOutbox(s)
	frameEnd := frameEnd
	if s.transport() == transportSSE {
		frameEnd = chunkEnd
	}
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
