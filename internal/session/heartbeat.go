package session

import (
	"time"

	"pushgate/api"
)

// Deadlines are ticks: seconds since the hub began, in 16 bits. No deadline
// is further away than maxDue, so that their order survives the wrap.
const maxDue = 1 << 14

var pingFrame = appendControlFrame(nil, opPing, nil)

// setDue has the sweep look at the session in so many seconds.
func (l *loop) setDue(id uint32, in int) {
	*l.slots.due(id) = l.tick + uint16(min(max(in, 1), maxDue))
}

// sweep looks once a second at the deadlines that have come. It passes over
// two bytes a session; nothing else is touched.
func (l *loop) sweep(tick uint16) {
	for c, chunk := range l.slots.chunks {
		for i, due := range &chunk.due {
			if int16(due-tick) <= 0 && chunk.slots[i].state != stateFree {
				l.onDue(uint32(c<<chunkBits|i), &chunk.slots[i])
			}
		}
	}
}

// onDue looks at one session: has its token expired, is it silent?
func (l *loop) onDue(id uint32, s *slot) {
	if s.state != stateOpen {
		l.drop(id, s)
		return
	}
	now := l.now.Unix()
	if now >= int64(s.expires) {
		l.close(id, s, api.ReasonExpired)
		return
	}
	beat := int(l.hub.cfg.Heartbeat / time.Second)
	silent := int(l.tick - s.heard)
	if silent >= 2*beat {
		l.close(id, s, api.ReasonHeartbeat)
		return
	}
	half := max(beat/2, 1)
	next := half - silent
	if silent >= half {
		l.queue(id, s, pingFrame)
		if s.state != stateOpen {
			return
		}
		// The next look is half a heartbeat away, or at the very end.
		next = min(half, 2*beat-silent)
	}
	l.setDue(id, int(min(int64(next), int64(s.expires)-now)))
}
