package session

import (
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/poll"
)

// admit makes a verified handshake a session. The 101 and the welcome go out
// in one write, after the session stands in the index and under the same lock:
// no event passes between.
func (l *loop) admit(a *admission) {
	h := l.hub
	if refused := l.mayAdmit(a); refused.Kind != api.RefusedNot {
		h.open.Add(-1)
		if h.cfg.Interest != nil {
			h.cfg.Interest.Release(a.identity.Subjects)
		}
		h.refuse(a.handshake, refused)
		return
	}
	h.halfOpen.Add(-1)
	h.handshakes[api.RefusedNot].Add(1)
	id, s := l.enroll(a)
	if err := l.poller.Add(s.fd, tagSession(id, s.gen)); err != nil {
		h.log.Error("registering a session failed", zap.Error(err))
		l.close(id, s, api.ReasonLost)
		return
	}
	l.spreadDue(id, s)
	if !l.greet(id, s, a) {
		return
	}
	if len(a.rest) > 0 {
		l.take(id, s, a.rest)
	}
}

// enroll gives the session its slot, its user and its subjects.
func (l *loop) enroll(a *admission) (uint32, *slot) {
	id := l.slots.take()
	s := l.slots.at(id)
	s.fd, s.addr, s.heard, s.state = a.fd, a.addr, l.tick, stateOpen
	s.transport = transportWebSocket
	l.stats.sessions[s.transport].Add(1)
	s.expires, s.issued = unix32(a.identity.Expires), unix32(a.identity.Issued)
	l.joinUser(id, s, a.identity.User)
	for _, subject := range a.identity.Subjects {
		l.subscribe(id, s, subject)
	}
	return id, s
}

// mayAdmit looks at what only the home loop knows.
func (l *loop) mayAdmit(a *admission) api.Refusal {
	h := l.hub
	full := l.slots.used >= maxEntries-1 || l.subjects.count+len(a.identity.Subjects) >= maxEntries
	switch {
	case l.refusing || l.stopping:
		return draining()
	case full:
		return api.Refusal{Kind: api.RefusedFull, Message: "this gateway is full", RetryAfter: retryAfter()}
	case h.cfg.SessionsPerUser > 0 && l.sessionsOf(a.identity.User, h.cfg.SessionsPerUser) >= h.cfg.SessionsPerUser:
		return api.Refusal{Kind: api.RefusedRate, Message: "this user has too many sessions", RetryAfter: retryAfter()}
	}
	return api.Refusal{}
}

// greet writes the 101 and the first frames.
func (l *loop) greet(id uint32, s *slot, a *admission) bool {
	w := api.Welcome{
		Session:   l.hub.ids.id(l.number, id, s.gen),
		User:      a.identity.User,
		Subjects:  a.identity.Subjects,
		Expires:   time.Unix(a.identity.Expires, 0),
		Heartbeat: l.hub.cfg.Heartbeat,
	}
	frame := finishText(api.AppendWelcome(beginFrame(l.scratch[:0]), &w))
	out := append(a.response, frame...)
	if a.resumes {
		// There is no history here: the app must reload its state.
		out = append(out, finishText(api.AppendResumed(beginFrame(nil), false, 0))...)
	}
	return l.sendFirst(id, s, out)
}

// sendFirst writes what is no plain sequence of frames: the 101 stands before
// them. A socket that does not take it whole is not worth a session.
func (l *loop) sendFirst(id uint32, s *slot, b []byte) bool {
	n, err := poll.Write(s.fd, b)
	if err != nil || n < len(b) {
		l.close(id, s, api.ReasonLost)
		return false
	}
	return true
}

// spreadDue sets the first look at a session somewhere in its first half
// heartbeat, so that a storm of connects is not a storm of pings each time.
func (l *loop) spreadDue(id uint32, s *slot) {
	half := max(int(l.hub.cfg.Heartbeat/time.Second)/2, 1)
	left := int64(s.expires) - l.now.Unix()
	l.setDue(id, int(min(int64(1+rand.IntN(half)), left)))
}

// unix32 fits a time into 32 bits; later than they hold is as good as never.
func unix32(seconds int64) uint32 { return uint32(min(max(seconds, 0), 1<<32-1)) }
