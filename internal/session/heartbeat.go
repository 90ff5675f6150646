package session

import (
	"sort"
	"time"

	"pushgate/api"
)

// Deadlines are ticks: seconds since the hub began, in 16 bits. No deadline
// is further away than maxDue, so that their order survives the wrap.
const maxDue = 1 << 14

// beatSeconds is the heartbeat behind slot.beat, which keeps what a client asked
// for in a byte: to the second up to 150 s, to 10 s up to 15 minutes, to 90 s up
// to an hour.
func beatSeconds(beat uint8) int {
	switch b := int(beat); {
	case b <= 150:
		return b
	case b <= 225:
		return 150 + 10*(b-150)
	default:
		return 900 + 90*(b-225)
	}
}

// beatFor is the heartbeat that a client gets who asks for this one: no shorter
// than the usual one, no longer than the longest, rounded up.
func (c *Config) beatFor(asked time.Duration) uint8 {
	if asked <= c.Heartbeat || c.MaxHeartbeat <= c.Heartbeat {
		return 0
	}
	seconds := int((min(asked, c.MaxHeartbeat) + time.Second - 1) / time.Second)
	return uint8(min(sort.Search(255, func(i int) bool { return beatSeconds(uint8(i)) >= seconds }), 255))
}

// beatOf is the heartbeat behind slot.beat.
func (h *Hub) beatOf(beat uint8) time.Duration {
	if beat == 0 {
		return h.cfg.Heartbeat
	}
	return time.Duration(beatSeconds(beat)) * time.Second
}

var pingFrame = appendControlFrame(nil, opPing, nil)

// setDue has the sweep look at the session in so many seconds.
func (l *loop) setDue(id uint32, in int) {
	*l.slots.due(id) = l.tick + uint16(min(max(in, 1), maxDue))
}

// dueAtLatest has the sweep look when the session's token expires, if it would
// look later.
func (l *loop) dueAtLatest(id uint32, s *slot) {
	due := int64(int16(*l.slots.due(id) - l.tick))
	l.setDue(id, int(min(due, int64(s.expires)-l.now.Unix())))
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
	if s.transport() == transportPoll {
		l.setDue(id, int(int64(s.expires)-now))
		return
	}
	beat := int(l.hub.beatOf(s.beat) / time.Second)
	silent := int(l.tick - s.heard)
	if silent >= 2*beat && s.transport() == transportWebSocket {
		l.close(id, s, api.ReasonHeartbeat)
		return
	}
	half := max(beat/2, 1)
	if s.transport() == transportSSE {
		l.beatSSE(id, s)
		if s.state == stateOpen {
			l.setDue(id, int(min(int64(half), int64(s.expires)-now)))
		}
		return
	}
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
