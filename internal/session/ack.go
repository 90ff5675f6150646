package session

import (
	"unicode"
	"unicode/utf8"

	"pushgate/api"
)

// Acks takes what clients acknowledge, and remembers it by user and device. No
// method waits.
type Acks interface {
	// Ack tells the backends now.
	Ack(a api.Ack)
	// Keep remembers the place of a user's device.
	Keep(user, device string, at api.Position)
	// Place looks it up. done is called once, by another goroutine.
	Place(user, device string, done func(at api.Position, ok bool))
}

const (
	// maxDevice is the longest name of a device, in bytes.
	maxDevice = 64
	// ackTicks is how many seconds lie between two places of a session that
	// are kept.
	ackTicks = 5
)

// validDevice reports whether a client may call its device so.
func validDevice(s string) bool {
	if len(s) > maxDevice || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// onAck takes a client's word that it has everything up to a place. There is no
// answer to it but an error.
func (l *loop) onAck(id uint32, s *slot, c *api.Control) {
	at, ok := api.ParseCursor(c.Cursor)
	has, _ := api.ParseCursor(l.cursor(id, s))
	switch {
	case l.stream == "" || l.hub.cfg.Acks == nil:
		l.replyError(id, s, c.Ref, api.CodeUnavailable, "ack needs a stored stream, and this gateway has none")
		return
	case !ok || at.Stream != l.stream:
		l.replyError(id, s, c.Ref, api.CodeBadRequest, "the cursor is none of this stream")
		return
	case at.Seq > has.Seq:
		l.replyError(id, s, c.Ref, api.CodeBadRequest, "the cursor lies ahead of what this session was sent")
		return
	}
	e := l.extraOf(s)
	if at.Seq <= e.acked {
		return // it is known
	}
	if e.acked == e.kept && e.device != "" {
		l.acking = append(l.acking, tagSession(id, s.gen))
	}
	e.acked = at.Seq
	l.notePlace(wasAcknowledged, s, at.Seq, 0)
	l.hub.cfg.Acks.Ack(api.Ack{
		User: string(l.names.get(s.user)), Session: l.hub.ids.id(l.number, id, s.gen), Device: e.device, At: at,
	})
}

// sweepAcks has the places kept that are due, once a second.
func (l *loop) sweepAcks() {
	waiting := l.acking[:0]
	for _, tag := range l.acking {
		id, gen := uint32(tag), uint32(tag>>32)
		s := l.slots.at(id)
		if s.gen != gen || s.state != stateOpen {
			continue // it was kept at its end
		}
		if l.tick-l.extras[s.extra].keptAt < ackTicks {
			waiting = append(waiting, tag)
			continue
		}
		l.keepAck(s)
	}
	l.acking = waiting
}

// keepAck has a session's place kept, if it has moved.
func (l *loop) keepAck(s *slot) {
	if s.extra == 0 {
		return
	}
	e := l.extras[s.extra]
	if e.device == "" || e.acked == e.kept {
		return
	}
	e.kept, e.keptAt = e.acked, l.tick
	l.hub.cfg.Acks.Keep(string(l.names.get(s.user)), e.device, api.Position{Stream: l.stream, Seq: e.acked})
}
