package session

import (
	"pushgate/api"
	"pushgate/internal/auth"
)

// subscribe makes session id a taker of a subject or pattern; own says that
// the client asked for it.
func (l *loop) subscribe(id uint32, s *slot, name string, own bool) {
	m := l.subjects.add(name, id)
	if own {
		m.subject |= ownBit
	}
	if int(s.nsubs) < len(s.subs) {
		s.subs[s.nsubs] = m
	} else {
		e := l.extraOf(s)
		e.subs = append(e.subs, m)
	}
	s.nsubs++
	l.noteRoaming(s, name, 1)
}

// unsubscribe ends the session's i-th membership; the last one takes its
// place.
func (l *loop) unsubscribe(s *slot, i int) {
	m := *l.membershipAt(s, i)
	l.noteRoaming(s, l.subjectName(m), -1)
	l.subjects.remove(m.place(), l.moved)
	last := int(s.nsubs) - 1
	*l.membershipAt(s, i) = *l.membershipAt(s, last)
	if last < len(s.subs) {
		s.subs[last] = membership{}
	} else {
		e := l.extras[s.extra]
		e.subs = e.subs[:last-len(s.subs)]
	}
	s.nsubs--
}

// held returns where among the session's memberships a subject is, -1 when the
// session does not have it.
func (l *loop) held(s *slot, name string) int {
	record := l.subjects.find([]byte(name))
	if record == 0 {
		return -1
	}
	for i := range int(s.nsubs) {
		if l.membershipAt(s, i).place().subject == record {
			return i
		}
	}
	return -1
}

// maySubscribe tells whether the client may ask for a subject: it is part of
// what its token brings or grants, and nothing of it is denied.
func (l *loop) maySubscribe(s *slot, name string) bool {
	var g *auth.Grants
	if s.extra != 0 && l.extras[s.extra].grants != nil {
		g = l.extras[s.extra].grants.Grants
	}
	if g.Deny(name) {
		return false
	}
	if g.Allow(name) {
		return true
	}
	for i := range int(s.nsubs) {
		if m := *l.membershipAt(s, i); !m.own() && api.Covers(l.subjectName(m), name) {
			return true
		}
	}
	return s.extra != 0 && leftBehind(l.extras[s.extra], name) >= 0
}

// subjectName is a copy of a membership's subject.
func (l *loop) subjectName(m membership) string {
	return string(l.names.get(l.subjects.subjects.at(m.place().subject).name))
}

// subjectsOf are all that the session receives.
func (l *loop) subjectsOf(s *slot) []string {
	all := make([]string, s.nsubs)
	for i := range all {
		all[i] = l.subjectName(*l.membershipAt(s, i))
	}
	return all
}

// membershipAt returns the i-th of a session's memberships.
func (l *loop) membershipAt(s *slot, i int) *membership {
	if i < len(s.subs) {
		return &s.subs[i]
	}
	return &l.extras[s.extra].subs[i-len(s.subs)]
}

// membershipMoved notes that the session has another place in a list.
func (l *loop) membershipMoved(id uint32, moved membership) {
	s := l.slots.at(id)
	for i := range int(s.nsubs) {
		if m := l.membershipAt(s, i); m.place().subject == moved.subject {
			m.pos = moved.pos
			return
		}
	}
}

// extraOf returns the session's extra record and makes it where there is none.
func (l *loop) extraOf(s *slot) *extra {
	if s.extra == 0 {
		if n := len(l.freeExtras); n > 0 {
			s.extra = l.freeExtras[n-1]
			l.freeExtras = l.freeExtras[:n-1]
		} else {
			l.extras = append(l.extras, new(extra))
			s.extra = uint32(len(l.extras) - 1)
		}
	}
	return l.extras[s.extra]
}

// settleExtra gives the record back when there is nothing in it any more.
func (l *loop) settleExtra(s *slot) {
	e := l.extras[s.extra]
	if len(e.subs) == 0 && e.grants == nil && len(e.left) == 0 && e.wire == nil && len(e.replays) == 0 &&
		len(e.skips) == 0 && e.ahead == 0 && e.device == "" && e.acked == 0 && e.acquiring == 0 && e.asking == nil && !e.renewing && !e.echo && e.polling == nil {
		l.giveExtra(s.extra)
		s.extra = 0
	}
}

func (l *loop) giveExtra(i uint32) {
	l.setGrants(l.extras[i], nil)
	*l.extras[i] = extra{}
	l.freeExtras = append(l.freeExtras, i)
}

// heldGrants are the grants of all sessions of the loop whose tokens say the
// same.
type heldGrants struct {
	*auth.Grants
	sessions int
}

// setGrants replaces a session's grants.
func (l *loop) setGrants(e *extra, g *auth.Grants) {
	if old := e.grants; old != nil {
		if old.sessions--; old.sessions == 0 {
			delete(l.grants, old.Key())
		}
		e.grants = nil
	}
	if g == nil {
		return
	}
	shared := l.grants[g.Key()]
	if shared == nil {
		shared = &heldGrants{Grants: g}
		l.grants[g.Key()] = shared
	}
	shared.sessions++
	e.grants = shared
}

// leftBehind returns where in e.left a subject is, or -1.
func leftBehind(e *extra, name string) int {
	for i, s := range e.left {
		if s == name {
			return i
		}
	}
	return -1
}
