package session

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"pushgate/api"
)

// ending is what the log says of a session that ended.
type ending struct {
	reason  api.Reason
	session string
	user    string
}

// ended has an ending logged. The loop does not wait for the log: under a
// flood of endings some lines are left out, the counters are not.
func (h *Hub) ended(l *loop, id uint32, s *slot, why api.Reason) {
	level := levelOf(why)
	if !h.log.Core().Enabled(level) {
		return
	}
	e := ending{reason: why, session: h.ids.id(l.number, id, s.gen), user: string(l.names.get(s.user))}
	select {
	case h.endings <- e:
	default:
	}
}

func (h *Hub) logEndings() {
	for e := range h.endings {
		if entry := h.log.Check(levelOf(e.reason), "session ended"); entry != nil {
			entry.Write(zap.Stringer("reason", e.reason), zap.Uint16("code", e.reason.Code()),
				zap.String("session", e.session), zap.String("user", e.user))
		}
	}
}

// levelOf is how loud an ending is: what clients do every day is for those who
// look for it.
func levelOf(why api.Reason) zapcore.Level {
	switch why {
	case api.ReasonClient, api.ReasonLost, api.ReasonDrain, api.ReasonExpired, api.ReasonHeartbeat:
		return zapcore.DebugLevel
	default:
		return zapcore.InfoLevel
	}
}
