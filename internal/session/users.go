package session

// The sessions of one user form a chain through their slots; the table knows
// its first. The name is stored once and goes with the last of them.

// joinUser puts session id at the front of its user's chain.
func (l *loop) joinUser(id uint32, s *slot, user string) {
	key := []byte(user)
	h := l.hub.hash(key)
	first := l.users.find(h, key)
	if first == 0 {
		s.user = l.names.put(user)
		l.users.insert(h, id)
		return
	}
	f := l.slots.at(first)
	s.user, s.next = f.user, first
	f.prev = id
	l.users.replace(h, first, id)
}

// leaveUser takes session id out of its user's chain.
func (l *loop) leaveUser(id uint32, s *slot) {
	if s.next != 0 {
		l.slots.at(s.next).prev = s.prev
	}
	switch {
	case s.prev != 0:
		l.slots.at(s.prev).next = s.next
	case s.next != 0:
		l.users.replace(l.hub.hash(l.names.get(s.user)), id, s.next)
	default:
		l.users.remove(l.hub.hash(l.names.get(s.user)), id)
		l.names.drop(s.user)
	}
	s.user, s.next, s.prev = 0, 0, 0
}

// sessionsOf counts a user's sessions, at most up to limit.
func (l *loop) sessionsOf(user string, limit int) int {
	key := []byte(user)
	n := 0
	for id := l.users.find(l.hub.hash(key), key); id != 0 && n < limit; id = l.slots.at(id).next {
		n++
	}
	return n
}
