//go:build echotest

package session

// echoes reports whether a session gives back what its client sends: built in
// for conformance suites only, which ask for it with ?echo=1.
func (l *loop) echoes(s *slot) bool { return s.extra != 0 && l.extras[s.extra].echo }

func (l *loop) keepEcho(s *slot, hs *handshake) {
	if hs.query.Get("echo") == "1" {
		l.extraOf(s).echo = true
	}
}

// outboxLimit is what may wait for a session: an echo is as large as what the
// client sends, and not the client's fault.
func (l *loop) outboxLimit(s *slot) int {
	if l.echoes(s) {
		return max(l.hub.cfg.OutboxBytes, 4*l.hub.cfg.MessageBytes)
	}
	return l.hub.cfg.OutboxBytes
}
