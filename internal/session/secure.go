package session

import (
	"pushgate/internal/poll"
)

// What heads and sessions read and write goes through here: straight to the
// socket, or through TLS.

// keepWire makes s a session over TLS.
func (l *loop) keepWire(s *slot, w *wire) {
	if w == nil {
		return
	}
	l.extraOf(s).wire = w
	s.flags |= flagTLS
}

func (l *loop) wireOf(s *slot) *wire { return l.extras[s.extra].wire }

// writeSession writes as much of b as there is room for, like [poll.Write].
func (l *loop) writeSession(s *slot, b []byte) (int, error) {
	if s.flags&flagTLS == 0 {
		return poll.Write(s.fd, b)
	}
	return l.wireOf(s).send(b)
}

// holdsBack reports whether ciphertext waits for room in the socket, though
// all plaintext was taken.
func (l *loop) holdsBack(s *slot) bool {
	return s.flags&flagTLS != 0 && len(l.wireOf(s).pending) > 0
}

// pushSession writes ciphertext that was waiting. It reports false when there
// is still some, or the session is gone.
func (l *loop) pushSession(id uint32, s *slot) bool {
	w := l.wireOf(s)
	if err := w.push(); err != nil {
		l.lost(id, s)
		return false
	}
	return len(w.pending) == 0
}

// closeNotify says within TLS that nothing more will come, once, however often
// it is called. It reports false when that has to wait for room in the socket:
// closeSent is called again.
func (l *loop) closeNotify(id uint32, s *slot) bool {
	_ = l.wireOf(s).tls.CloseWrite()
	if l.holdsBack(s) {
		l.waitForRoom(id, s, l.trafficOf(id, s))
		return false
	}
	return true
}

// readSecure takes all that one report of the poller brings: what stayed
// inside the tls.Conn no poller would report again.
func (l *loop) readSecure(id uint32, s *slot) {
	w, gen := l.wireOf(s), s.gen
	w.fresh = true
	for {
		n, err := w.tls.Read(l.input)
		if n > 0 {
			l.take(id, s, l.input[:n])
			if s.gen != gen {
				return
			}
		}
		if err == errNotYet {
			break
		}
		if err != nil {
			l.broke(id, s, err)
			return
		}
	}
	// TLS may have answered by itself: a new key, an alert.
	switch n := len(w.pending); {
	case n > maxPending:
		l.lost(id, s)
	case n > 0:
		l.waitForRoom(id, s, l.trafficOf(id, s))
	}
}

// readFrom reads what has come of a request, like [poll.Read].
func (hd *head) readFrom(b []byte) (int, error) {
	if hd.wire == nil {
		return poll.Read(hd.fd, b)
	}
	return hd.wire.receive(b)
}

// answerAll writes a whole response and ends our side. It reports false when
// the socket does not take it: a fresh one has room for more.
func (hd *head) answerAll(response []byte) bool {
	if hd.wire == nil {
		if n, _ := poll.Write(hd.fd, response); n < len(response) {
			return false
		}
		poll.CloseWrite(hd.fd)
		return true
	}
	w := hd.wire
	if n, _ := w.send(response); n < len(response) {
		return false
	}
	_ = w.tls.CloseWrite()
	poll.CloseWrite(hd.fd)
	return len(w.pending) == 0
}
