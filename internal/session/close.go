package session

import (
	"io"

	"pushgate/api"
	"pushgate/internal/poll"
)

// lingerTicks is how long, in seconds, a session that was sent its close frame
// may take to answer it.
const lingerTicks = 5

// close ends session id, whatever the cause: once only, counted, logged. It
// leaves the index at once; the socket stays until the close frame is through
// and answered, or lingerTicks are over. Afterwards the session may be gone.
func (l *loop) close(id uint32, s *slot, why api.Reason) {
	l.closeWith(id, s, why, why.Code(), why.Text())
}

// closeWith closes with a code of its own: a client's code is echoed.
func (l *loop) closeWith(id uint32, s *slot, why api.Reason, code uint16, text string) {
	if s.state != stateOpen {
		return
	}
	l.stats.closes[why].Add(1)
	l.stats.sessions[s.transport()].Add(-1)
	l.hub.ended(l, id, s, why)
	l.wentOut(id, s, why)
	l.retire(id, s)
	transport := s.transport()
	if why == api.ReasonLost || why == api.ReasonClient && transport != transportWebSocket {
		l.drop(id, s)
		return
	}
	if transport == transportPoll {
		l.endPoll(id, s, why)
		return
	}
	if why == api.ReasonSlow || why == api.ReasonOverload {
		l.cutOutbox(s)
	}
	l.setDue(id, lingerTicks)
	t := l.trafficOf(id, s)
	// What the client had begun to say is of no interest any more.
	t.in, t.message, t.partial, t.left = t.in[:0], t.message[:0], false, 0
	if transport == transportSSE {
		l.enqueue(id, t, segment{frames: sseClose(why)})
	} else {
		l.enqueue(id, t, segment{frames: appendCloseFrame(nil, code, text)})
	}
	if why == api.ReasonClient {
		s.state = stateAnswered
	}
}

// retire takes a session out of the index: it gets no more events.
func (l *loop) retire(id uint32, s *slot) {
	l.keepAck(s)
	l.leaveIndex(id, s)
	s.state = stateClosing
}

// closeSent is called when all is written of a closing session. Our side of
// the connection ends, behind the close frame; the client's end is awaited, so
// that bytes that it still sends do not reset the connection and take the
// close frame with them.
func (l *loop) closeSent(id uint32, s *slot) {
	if s.transport() == transportPoll {
		l.pollSent(id, s)
		return
	}
	if s.flags&flagTLS != 0 && !l.closeNotify(id, s) {
		return
	}
	if s.state == stateAnswered {
		// The server ends the connection first (RFC 6455 §7.1.1).
		l.drop(id, s)
		return
	}
	poll.CloseWrite(s.fd)
	l.settle(s)
}

// broke ends a session whose connection ended. For a client that speaks no
// WebSocket that is the way to leave.
func (l *loop) broke(id uint32, s *slot, err error) {
	if err == io.EOF && s.state == stateOpen && s.transport() != transportWebSocket {
		l.close(id, s, api.ReasonClient)
		return
	}
	l.lost(id, s)
}

// lost ends a session whose connection broke.
func (l *loop) lost(id uint32, s *slot) {
	if s.state == stateOpen {
		l.close(id, s, api.ReasonLost)
		return
	}
	l.drop(id, s)
}

// drop closes the socket of a closing session and frees its slot.
func (l *loop) drop(id uint32, s *slot) {
	poll.Close(s.fd)
	l.free(id, s)
}

// free gives back all that a session has but its socket.
func (l *loop) free(id uint32, s *slot) {
	if s.active != 0 {
		l.release(s)
	}
	if s.extra != 0 {
		l.giveExtra(s.extra)
	}
	l.hub.release(s.addr)
	l.slots.give(id)
	*l.slots.due(id) = 0
}

// leaveIndex takes the session off its subjects and its user.
func (l *loop) leaveIndex(id uint32, s *slot) {
	var wanted []string
	for i := range int(s.nsubs) {
		m := *l.membershipAt(s, i)
		name := l.subjectName(m)
		if l.hub.cfg.Interest != nil {
			wanted = append(wanted, name)
		}
		l.noteRoaming(s, name, -1)
		l.subjects.remove(m.place(), l.moved)
	}
	s.nsubs = 0
	if wanted != nil {
		l.hub.cfg.Interest.Release(wanted)
	}
	l.leaveUser(id, s)
}
