package session

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"pushgate/api"
)

// ending is what the log says of a session that ended.
type ending struct {
	at      time.Time
	reason  api.Reason
	session string
	user    string
}

// ended has an ending logged. The loop does not wait for the log: under a
// flood of endings some lines are left out, the counters are not.
func (h *Hub) ended(l *loop, id uint32, s *slot, why api.Reason) {
	level := levelOf(why)
	if level < zapcore.InfoLevel && !h.log.Core().Enabled(level) {
		return
	}
	e := ending{at: l.now, reason: why, session: h.ids.id(l.number, id, s.gen), user: string(l.names.get(s.user))}
	select {
	case h.endings <- e:
	default:
	}
}

func (h *Hub) logEndings() {
	for e := range h.endings {
		h.last.add(Ending{Time: e.at, Session: e.session, Reason: e.reason.String(), Code: e.reason.Code()})
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

// Ending is one of the last sessions that ended. It does not say whose it was:
// who may see the figures need not know the users.
type Ending struct {
	Time    time.Time `json:"time"`
	Session string    `json:"session"`
	Reason  string    `json:"reason"`
	Code    uint16    `json:"code"`
}

// recentEndings is how many are kept.
const recentEndings = 50

// lastEndings keeps the last endings. Those that are everyday matters are among
// them only when the log has them too.
type lastEndings struct {
	mu   sync.Mutex
	kept recent[Ending]
}

func (e *lastEndings) add(one Ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	*e.kept.add() = one
}

// RecentEndings returns the last sessions that ended otherwise than every day,
// the newest first.
func (h *Hub) RecentEndings() []Ending {
	h.last.mu.Lock()
	defer h.last.mu.Unlock()
	all := make([]Ending, 0, recentEndings)
	h.last.kept.all(func(e *Ending) { all = append(all, *e) })
	slices.Reverse(all)
	return all
}
