package session

import (
	"slices"

	"pushgate/api"
)

// skip holds stored events back that a replay has brought, or will bring.
type skip struct {
	subject string  // a pattern; "" is any
	seq     uint64  // up to it
	since   uint64  // of a subject: what else brings it brought it behind this
	replay  *replay // which brings the subject, while it is under way
	tick    uint16  // when it began
	ahead   bool    // the client brought the place itself, from another gateway
	ref     string  // then: of the subscribe that did
}

// forever holds back whatever comes.
const forever = 1<<64 - 1

// aheadTicks is how many seconds another gateway can be ahead of this one.
const aheadTicks = 5

// addSkip holds back what still waits for the loop and was replayed already.
func (l *loop) addSkip(id uint32, s *slot, k skip) {
	if k.seq <= l.through() {
		return // nothing does
	}
	e := l.extraOf(s)
	if at := slices.IndexFunc(e.skips, func(old skip) bool { return old.subject == "" && !old.ahead }); at >= 0 && k.subject == "" && !k.ahead {
		e.skips[at].seq = max(e.skips[at].seq, k.seq)
	} else {
		e.skips = append(e.skips, k)
	}
	if s.flags&flagSkips == 0 {
		s.flags |= flagSkips
		l.skipping = append(l.skipping, tagSession(id, s.gen))
	}
}

// isDue reports whether an event is to be given to a session as it comes.
func (l *loop) isDue(s *slot, d *delivery) bool {
	switch {
	case d.event.Seq == 0 || s.flags&(flagBehind|flagSkips) == 0:
		return true
	case s.flags&flagBehind != 0:
		return false
	case d.epoch != l.epoch:
		return true
	}
	for _, k := range l.extras[s.extra].skips {
		if d.event.Seq <= k.seq && (k.subject == "" || api.Match(k.subject, d.event.Subject)) &&
			(k.subject == "" || d.event.Seq <= k.since || !l.comesAnyhow(s, k.subject, d.event.Subject)) {
			return false
		}
	}
	return true
}

// comesAnyhow reports whether a subject comes live through another of the
// session's subscriptions than this one.
func (l *loop) comesAnyhow(s *slot, but, subject string) bool {
	for i := range int(s.nsubs) {
		if name := l.subjectName(*l.membershipAt(s, i)); name != but && api.Match(name, subject) && l.replayOf(s, name) == nil {
			return true
		}
	}
	return false
}

// sweepSkips forgets, once a second, skips that have done their work. A place
// that a client brought and that this gateway does not come to is none.
func (l *loop) sweepSkips() {
	if len(l.skipping) == 0 {
		return
	}
	through := l.through()
	kept := l.skipping[:0]
	for _, tag := range l.skipping {
		id, gen := uint32(tag), uint32(tag>>32)
		s := l.slots.at(id)
		if s.gen != gen || s.state != stateOpen {
			continue
		}
		e := l.extras[s.extra]
		lost := []string(nil) // refs
		there := false        // where a poll's client was
		e.skips = slices.DeleteFunc(e.skips, func(k skip) bool {
			if k.replay != nil {
				return false
			}
			never := k.ahead && k.seq > through && l.tick-k.tick > aheadTicks
			if never {
				lost = append(lost, k.ref)
			}
			there = there || k.ahead && k.seq <= through
			return never || k.seq <= through
		})
		if there && s.transport() == transportPoll && l.pollOf(s).hurried {
			l.timeUp(id, s) // there is nothing else to wait for
		}
		for _, ref := range lost {
			if ref == "" {
				e.ahead = 0
			}
			l.resumed(id, s, &api.Resumed{Ref: ref, Cursor: l.cursor(id, s)})
		}
		if s.gen != gen || s.state != stateOpen {
			continue // the reply was its end
		}
		if len(e.skips) > 0 {
			kept = append(kept, tag)
			continue
		}
		e.skips = nil
		s.flags &^= flagSkips
		l.settleExtra(s)
	}
	l.skipping = kept
}
