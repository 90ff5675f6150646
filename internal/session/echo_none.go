//go:build !echotest

package session

// echoes is false: only binaries for conformance tests echo.
func (l *loop) echoes(*slot) bool { return false }

func (l *loop) keepEcho(*slot, *handshake) {}

// outboxLimit is what may wait for a session.
func (l *loop) outboxLimit(*slot) int { return l.hub.cfg.OutboxBytes }
