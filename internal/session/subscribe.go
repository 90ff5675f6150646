package session

// subscribe makes session id a taker of a subject or pattern.
func (l *loop) subscribe(id uint32, s *slot, name string) {
	m := l.subjects.add(name, id)
	if int(s.nsubs) < len(s.subs) {
		s.subs[s.nsubs] = m
	} else {
		if s.extra == 0 {
			s.extra = l.takeExtra()
		}
		e := l.extras[s.extra]
		e.subs = append(e.subs, m)
	}
	s.nsubs++
	l.noteRoaming(s, name, 1)
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
		if m := l.membershipAt(s, i); m.subject == moved.subject {
			m.pos = moved.pos
			return
		}
	}
}

func (l *loop) takeExtra() uint32 {
	if n := len(l.freeExtras); n > 0 {
		i := l.freeExtras[n-1]
		l.freeExtras = l.freeExtras[:n-1]
		return i
	}
	l.extras = append(l.extras, new(extra))
	return uint32(len(l.extras) - 1)
}

func (l *loop) giveExtra(i uint32) {
	*l.extras[i] = extra{}
	l.freeExtras = append(l.freeExtras, i)
}
