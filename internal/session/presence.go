package session

import (
	"time"

	"pushgate/api"
)

// Presence is told who comes and goes. No method waits.
type Presence interface {
	Came(p api.Presence)
	Went(p api.Presence)
}

// pollGrace is how long, in seconds, a client that polls is present behind its
// last poll.
const pollGrace = 30

// poller is a user who polls.
type poller struct {
	session string // of the poll that began it
	left    uint16 // the tick of the last poll's end
}

// silent is the reason of a poller's end.
const silent = "silent"

// cameIn says that a session stands.
func (l *loop) cameIn(id uint32, s *slot) {
	l.noteOpened(id, s)
	p := l.hub.cfg.Presence
	if p == nil {
		return
	}
	user, session := string(l.names.get(s.user)), l.hub.ids.id(l.number, id, s.gen)
	if s.transport() == transportPoll {
		if _, polls := l.pollers[user]; polls {
			return
		}
		l.pollers[user] = poller{session: session, left: l.tick}
	}
	p.Came(api.Presence{User: user, Session: session, Reason: transportLabels[s.transport()]})
}

// wentOut says that a session ends, while its user is known.
func (l *loop) wentOut(id uint32, s *slot, why api.Reason) {
	l.noteClosed(id, s, wasClosed, why)
	p := l.hub.cfg.Presence
	switch {
	case p == nil:
	case s.transport() == transportPoll:
		l.pollEnded(s)
	default:
		p.Went(api.Presence{User: string(l.names.get(s.user)), Session: l.hub.ids.id(l.number, id, s.gen), Reason: why.String()})
	}
}

// pollEnded begins a poller's grace.
func (l *loop) pollEnded(s *slot) {
	if p, polls := l.pollers[string(l.names.get(s.user))]; polls {
		p.left = l.tick
		l.pollers[string(l.names.get(s.user))] = p
	}
}

// sweepPollers ends the presence of users whose grace is over, once a second.
func (l *loop) sweepPollers() {
	for user, p := range l.pollers {
		if l.tick-p.left > pollGrace && !l.polls(user) {
			l.pollerWent(user, p, silent)
		}
	}
}

// leavePollers ends it for all: the gateway goes, and with it who would.
func (l *loop) leavePollers() {
	for user, p := range l.pollers {
		l.pollerWent(user, p, api.ReasonDrain.String())
	}
}

func (l *loop) pollerWent(user string, p poller, why string) {
	delete(l.pollers, user)
	l.hub.cfg.Presence.Went(api.Presence{User: user, Session: p.session, Reason: why})
}

// polls reports whether one of a user's sessions is a poll that waits.
func (l *loop) polls(user string) bool {
	key := []byte(user)
	for id := l.users.find(l.hub.hash(key), key); id != 0; id = l.slots.at(id).next {
		if l.slots.at(id).transport() == transportPoll {
			return true
		}
	}
	return false
}

// onlineSlice is how many users a loop looks up before others get a turn.
const onlineSlice = 256

// Online returns those of some users who are here, each once: by look-up at
// their homes.
func (h *Hub) Online(users []string) []string {
	homes := make([][]string, len(h.loops))
	asked := make(map[string]bool, len(users))
	for _, user := range users {
		if !asked[user] {
			asked[user] = true
			n := h.homeOf(user).number
			homes[n] = append(homes[n], user)
		}
	}
	online := []string{}
	for i, some := range homes {
		for len(some) > 0 {
			n := min(len(some), onlineSlice)
			var here []string // the loop may end before it has an answer
			h.call(h.loops[i], func(l *loop) {
				for _, user := range some[:n] {
					if l.isOnline(user) {
						here = append(here, user)
					}
				}
			})
			online = append(online, here...)
			some = some[n:]
		}
	}
	return online
}

func (l *loop) isOnline(user string) bool {
	if _, polls := l.pollers[user]; polls {
		return true
	}
	key := []byte(user)
	return l.users.find(l.hub.hash(key), key) != 0
}

// connectedAt is when a session began, as far as the recorder remembers.
func (l *loop) connectedAt(s *slot) time.Time {
	var at time.Time
	l.flight.sessions.all(func(t *turning) {
		if t.what == wasOpened && t.slot == s && t.gen == s.gen {
			at = time.Unix(0, t.at).UTC()
		}
	})
	return at
}
