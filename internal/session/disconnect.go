package session

import "pushgate/api"

// DisconnectUser begins to end all sessions of a user with 4000 and returns
// how many there are.
func (h *Hub) DisconnectUser(user string) int {
	return h.endUser(user, api.ReasonDisconnected, func(*slot) bool { return true })
}

// Revoke begins to end, with 4000, the sessions of a user whose token was
// issued before a Unix time or does not say when, and returns how many there
// are. That no more of them come is the verifier's part: it must know first.
func (h *Hub) Revoke(user string, issuedBefore int64) int {
	return h.endUser(user, api.ReasonRevoked, func(s *slot) bool {
		return s.issued == 0 || int64(s.issued) < issuedBefore
	})
}

// DisconnectSession ends a session with 4000. It returns 0 when the id is none
// of this hub's, or the session is over.
func (h *Hub) DisconnectSession(session string) int {
	number, id, gen, ok := h.ids.place(session)
	if !ok || number >= len(h.loops) {
		return 0
	}
	n := 0
	h.call(h.loops[number], func(l *loop) {
		if id >= l.slots.top {
			return
		}
		if s := l.slots.at(id); s.gen == gen && s.state == stateOpen {
			l.close(id, s, api.ReasonDisconnected)
			n = 1
		}
	})
	return n
}

// endUser ends those of a user's sessions that match.
func (h *Hub) endUser(user string, why api.Reason, match func(*slot) bool) int {
	var due []uint64
	h.call(h.homeOf(user), func(l *loop) {
		key := []byte(user)
		for id := l.users.find(h.hash(key), key); id != 0; {
			s := l.slots.at(id)
			if match(s) {
				due = append(due, tagSession(id, s.gen))
			}
			id = s.next
		}
		l.endSome(due, why)
	})
	return len(due)
}

// endSlice is how many sessions a loop ends before others get a turn.
const endSlice = 256

// endSome ends the sessions with these tags, as far as they are still there,
// slice by slice.
func (l *loop) endSome(due []uint64, why api.Reason) {
	n := min(len(due), endSlice)
	for _, tag := range due[:n] {
		id, gen := uint32(tag), uint32(tag>>32)
		if s := l.slots.at(id); s.gen == gen && s.state == stateOpen {
			l.close(id, s, why)
		}
	}
	if rest := due[n:]; len(rest) > 0 {
		l.post(message{do: func(l *loop) { l.endSome(rest, why) }})
	}
}

// call has a loop run f and waits for it, or for the loop's end.
func (h *Hub) call(l *loop, f func(*loop)) {
	done := make(chan struct{})
	l.post(message{do: func(l *loop) { f(l); close(done) }})
	select {
	case <-done:
	case <-l.done:
	}
}
