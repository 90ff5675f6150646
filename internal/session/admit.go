package session

import (
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/auth"
)

// admit makes a verified handshake a session. The 101 and the welcome go out
// in one write, after the session stands in the index and under the same lock:
// no event passes between.
func (l *loop) admit(a *admission) {
	h := l.hub
	if refused := l.mayAdmit(a); refused.Kind != api.RefusedNot {
		h.release(a.addr)
		if h.cfg.Interest != nil {
			h.cfg.Interest.Release(a.subjects())
		}
		h.refuse(a.handshake, refused)
		return
	}
	h.halfOpen.Add(-1)
	h.handshakes[api.RefusedNot].Add(1)
	if h.cfg.SessionsPerUser > 0 && h.cfg.ReplaceOldest {
		l.replaceOldest(a.identity.User)
	}
	id, s := l.enroll(a)
	if err := l.poller.Add(s.fd, tagSession(id, s.gen)); err != nil {
		h.log.Error("registering a session failed", zap.Error(err))
		l.close(id, s, api.ReasonLost)
		return
	}
	l.spreadDue(id, s)
	l.cameIn(id, s)
	gen := s.gen // each of these can be the session's end
	if a.transport == transportPoll {
		l.beginPoll(id, s, a)
		return
	}
	if !l.greet(id, s, a) {
		return
	}
	if a.cursor != "" {
		l.resume(id, s, a.cursor)
	}
	if len(a.rest) > 0 && s.gen == gen && s.state == stateOpen {
		l.take(id, s, a.rest)
	}
	if a.wire != nil && s.gen == gen {
		l.onReadable(id, s) // more may lie in TLS's own buffer
	}
}

// enroll gives the session its slot, its user and its subjects.
func (l *loop) enroll(a *admission) (uint32, *slot) {
	id := l.slots.take()
	s := l.slots.at(id)
	s.fd, s.addr, s.heard, s.state = a.fd, a.addr, l.tick, stateOpen
	s.setTransport(a.transport)
	s.beat = a.beat
	l.keepWire(s, a.wire)
	l.stats.sessions[s.transport()].Add(1)
	s.expires, s.issued = unix32(a.identity.Expires), unix32(a.identity.Issued)
	l.joinUser(id, s, a.identity.User)
	for _, subject := range a.identity.Subjects {
		l.subscribe(id, s, subject, false)
	}
	for _, subject := range a.own {
		l.subscribe(id, s, subject, true)
	}
	if a.device != "" && l.hub.cfg.Acks != nil {
		l.extraOf(s).device = a.device
	}
	if a.deflate != "" {
		s.flags |= flagDeflate
	}
	if a.transport == transportPoll {
		l.extraOf(s).polling = newPolling(a)
	}
	l.keepEcho(s, a.handshake)
	if g := a.identity.Grants; g != nil {
		l.setGrants(l.extraOf(s), g)
	}
	return id, s
}

// mayAdmit looks at what only the home loop knows.
func (l *loop) mayAdmit(a *admission) api.Refusal {
	h := l.hub
	full := l.slots.used >= maxEntries-1 || l.subjects.count+len(a.identity.Subjects)+len(a.own) >= maxEntries
	switch {
	case l.refusing || l.stopping:
		return h.goingAway()
	case h.cfg.Verifier != nil && h.cfg.Verifier.Revoked(a.identity.User, a.identity.Issued):
		// It was verified before the revocation came, which has passed here.
		return h.refusalOf(&auth.Error{Reason: auth.ReasonRevoked, Message: "The token has been revoked."})
	case a.transport == transportPoll && l.stream == "":
		return api.Refusal{Kind: api.RefusedFull, Message: "the stored stream is not known yet", RetryAfter: h.retryAfter()}
	case full:
		return api.Refusal{Kind: api.RefusedFull, Message: "this gateway is full", RetryAfter: h.retryAfter()}
	case h.cfg.SessionsPerUser > 0 && !h.cfg.ReplaceOldest && l.sessionsOf(a.identity.User, h.cfg.SessionsPerUser) >= h.cfg.SessionsPerUser:
		return h.tooMany("this user has too many sessions")
	}
	return api.Refusal{}
}

// replaceOldest ends a user's oldest sessions until one more may be.
func (l *loop) replaceOldest(user string) {
	key := []byte(user)
	for l.sessionsOf(user, l.hub.cfg.SessionsPerUser) >= l.hub.cfg.SessionsPerUser {
		id := l.users.find(l.hub.hash(key), key)
		for s := l.slots.at(id); s.next != 0; s = l.slots.at(id) {
			id = s.next // the newest is the first
		}
		l.close(id, l.slots.at(id), api.ReasonReplaced)
	}
}

// greet writes the 101 and the first frames.
func (l *loop) greet(id uint32, s *slot, a *admission) bool {
	if l.echoes(s) {
		return l.sendFirst(id, s, a.response) // nothing but echoes comes back
	}
	w := api.Welcome{
		Session:   l.hub.ids.id(l.number, id, s.gen),
		User:      a.identity.User,
		Subjects:  a.subjects(),
		Expires:   time.Unix(a.identity.Expires, 0),
		Heartbeat: l.hub.beatOf(s.beat),
	}
	switch {
	case a.cursor == "":
		w.Cursor = l.beginNow(id, s)
	case a.acked:
		w.Cursor = a.cursor
	}
	frame := s.framed(api.AppendWelcome(beginFrame(l.scratch[:0]), &w))
	out := append(a.response, frame...)
	return l.sendFirst(id, s, out)
}

// sendFirst writes what is no plain sequence of frames: the 101 stands before
// them. A socket that does not take it whole is not worth a session.
func (l *loop) sendFirst(id uint32, s *slot, b []byte) bool {
	n, err := l.writeSession(s, b)
	if err != nil || n < len(b) || l.holdsBack(s) {
		l.close(id, s, api.ReasonLost)
		return false
	}
	return true
}

// spreadDue sets the first look at a session somewhere in its first half
// heartbeat, so that a storm of connects is not a storm of pings each time.
func (l *loop) spreadDue(id uint32, s *slot) {
	half := max(int(l.hub.beatOf(s.beat)/time.Second)/2, 1)
	left := int64(s.expires) - l.now.Unix()
	l.setDue(id, int(min(int64(1+rand.IntN(half)), left)))
}

// unix32 fits a time into 32 bits; later than they hold is as good as never.
func unix32(seconds int64) uint32 { return uint32(min(max(seconds, 0), 1<<32-1)) }
