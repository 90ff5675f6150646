package session

import (
	"slices"
	"time"

	"pushgate/api"
	"pushgate/internal/auth"
)

// control answers one control message.
func (l *loop) control(id uint32, s *slot, payload []byte) {
	c, err := api.ParseControl(payload)
	if err != nil {
		l.replyError(id, s, c.Ref, api.CodeBadRequest, err.Error())
		return
	}
	if (c.Type == "subscribe" || c.Type == "unsubscribe") && l.defers(id, s, &c) {
		return
	}
	l.dispatch(id, s, &c)
}

func (l *loop) dispatch(id uint32, s *slot, c *api.Control) {
	switch c.Type {
	case "ping":
		l.reply(id, s, api.AppendPong(beginReply(), c.Ref, l.cursor(id, s)))
	case "subscribe":
		l.onSubscribe(id, s, c)
	case "unsubscribe":
		l.onUnsubscribe(id, s, c)
	case "renew":
		l.onRenew(id, s, c)
	case "ack":
		l.onAck(id, s, c)
	}
}

func beginReply() []byte { return beginFrame(make([]byte, 0, 160)) }

// reply queues a frame that was begun by beginReply.
func (l *loop) reply(id uint32, s *slot, frame []byte) {
	if s.state != stateOpen { // the reply before this one may have been too much
		return
	}
	if frame = s.framed(frame); frame != nil {
		l.queue(id, s, frame)
	}
}

// framed is a frame that is no event, begun by beginFrame, as the session's
// transport has it. Polls have none.
func (s *slot) framed(frame []byte) []byte {
	switch s.transport() {
	case transportSSE:
		return sseControl(frame)
	case transportPoll:
		return nil
	}
	return finishText(frame)
}

// resumed tells a session how a replay went, or that there is a gap.
func (l *loop) resumed(id uint32, s *slot, r *api.Resumed) {
	switch {
	case s.state != stateOpen:
	case s.transport() == transportPoll:
		l.pollResumed(id, s, r)
	default:
		// Not held against the outbox: a replay that ends with a large event
		// would end its session, each time again.
		l.enqueue(id, l.trafficOf(id, s), segment{frames: s.framed(api.AppendResumed(beginReply(), r))})
	}
}

func (l *loop) replyError(id uint32, s *slot, ref string, code api.ErrorCode, message string) {
	l.reply(id, s, api.AppendError(beginReply(), ref, code, message))
}

// onSubscribe gives the client a subject that its token lets it have. What it
// has already it is told again.
func (l *loop) onSubscribe(id uint32, s *slot, c *api.Control) {
	replays := c.Cursor != "" || c.From != ""
	switch {
	case !l.maySubscribe(s, c.Subject):
		l.noteForbidden(s, c.Subject)
		l.replyError(id, s, c.Ref, api.CodeForbidden, "your token does not grant this subject")
	case replays && l.stream == "":
		l.replyError(id, s, c.Ref, api.CodeUnavailable, "there is no stored stream to replay from: subscribe without cursor and from")
	case l.replayOf(s, c.Subject) != nil:
		l.replyError(id, s, c.Ref, api.CodeLimit, "this subject is being replayed already")
	case replays && l.replays(s) >= maxReplays:
		l.replyError(id, s, c.Ref, api.CodeLimit, "this session has as many replays under way as it may have")
	case l.held(s, c.Subject) >= 0:
		l.subscribedAgain(id, s, c)
	case l.wanted(s) >= l.hub.cfg.Subjects || l.subjects.count >= maxEntries:
		l.replyError(id, s, c.Ref, api.CodeLimit, "this session has as many subjects as it may have")
	default:
		e := l.extraOf(s)
		e.acquiring++
		if l.hub.cfg.Interest == nil {
			l.acquired(id, s.gen, c)
			return
		}
		if e.asking == nil {
			e.asking = new(asking)
		}
		e.asking.coming = append(e.asking.coming, c.Subject)
		gen, asked := s.gen, *c
		l.hub.cfg.Interest.Acquire([]string{c.Subject}, func() {
			l.post(message{do: func(l *loop) { l.acquired(id, gen, &asked) }})
		})
	}
}

// subscribedAgain tells a client of a subject that it has already, and replays
// what it asks for.
func (l *loop) subscribedAgain(id uint32, s *slot, c *api.Control) {
	l.reply(id, s, api.AppendSubscribed(beginReply(), c.Ref, c.Subject))
	if (c.Cursor != "" || c.From != "") && s.state == stateOpen {
		r := l.newReplay(c)
		r.until = l.through() // what comes behind it comes anyhow
		l.beginReplay(id, s, r)
	}
}

// maxLater is how many messages of a session may wait for subjects on their way.
const maxLater = 64

// defers keeps what a client says of a subject that is on its way until that is
// there: its messages take effect in their order. It reports whether it does.
func (l *loop) defers(id uint32, s *slot, c *api.Control) bool {
	if s.extra == 0 {
		return false
	}
	a := l.extras[s.extra].asking
	if a == nil || !slices.Contains(a.coming, c.Subject) {
		return false
	}
	if len(a.later) >= maxLater {
		l.replyError(id, s, c.Ref, api.CodeLimit, "too many messages wait for subjects that are on their way")
		return true
	}
	a.later = append(a.later, *c)
	return true
}

// arrived does what was said of a subject while it was on its way.
func (l *loop) arrived(id uint32, s *slot, subject string) {
	gen := s.gen
	for s.gen == gen && s.state == stateOpen && s.extra != 0 && l.extras[s.extra].asking != nil {
		e := l.extras[s.extra]
		a := e.asking
		at := slices.IndexFunc(a.later, func(c api.Control) bool { return c.Subject == subject })
		if at < 0 || slices.Contains(a.coming, subject) {
			if len(a.coming) == 0 {
				e.asking = nil
			}
			return
		}
		c := a.later[at]
		a.later = slices.Delete(a.later, at, at+1)
		l.dispatch(id, s, &c)
	}
}

// wanted counts the session's subjects, those on their way included.
func (l *loop) wanted(s *slot) int {
	n := int(s.nsubs)
	if s.extra != 0 {
		n += l.extras[s.extra].acquiring
	}
	return n
}

// acquired goes on with a subscribe when the subject's events arrive. The
// session, and its grant, may be gone by now.
func (l *loop) acquired(id, gen uint32, c *api.Control) {
	s := l.slots.at(id)
	if s.gen != gen || s.state != stateOpen {
		l.forsake(c.Subject)
		return
	}
	e := l.extras[s.extra]
	e.acquiring--
	if a := e.asking; a != nil {
		if at := slices.Index(a.coming, c.Subject); at >= 0 {
			a.coming = slices.Delete(a.coming, at, at+1)
			defer l.arrived(id, s, c.Subject)
		}
	}
	switch {
	case l.held(s, c.Subject) >= 0: // a renewed token brought it meanwhile
		l.forsake(c.Subject)
		l.subscribedAgain(id, s, c)
	case !l.maySubscribe(s, c.Subject):
		l.noteForbidden(s, c.Subject)
		l.forsake(c.Subject)
		l.replyError(id, s, c.Ref, api.CodeForbidden, "your token does not grant this subject any more")
	default:
		l.begin(id, s, c.Subject)
		l.reply(id, s, api.AppendSubscribed(beginReply(), c.Ref, c.Subject))
		if s.state == stateOpen && (c.Cursor != "" || c.From != "") {
			// What comes live waits until the past is through.
			r := l.newReplay(c)
			l.addSkip(id, s, skip{subject: c.Subject, seq: forever, replay: r, tick: l.tick})
			l.beginReplay(id, s, r)
		}
	}
}

// begin makes the session a taker of a subject that it asked for, or that came
// with its token and that it had given up.
func (l *loop) begin(id uint32, s *slot, subject string) {
	own := true
	e := l.extras[s.extra]
	if at := leftBehind(e, subject); at >= 0 {
		e.left = slices.Delete(e.left, at, at+1)
		own = false
	}
	l.subscribe(id, s, subject, own)
}

// forsake takes back the interest in a subject that comes to nothing.
func (l *loop) forsake(subject string) {
	if in := l.hub.cfg.Interest; in != nil {
		in.Release([]string{subject})
	}
}

// onUnsubscribe takes a subject from the session. One that came with the token
// is remembered, so that a renewal does not bring it back.
func (l *loop) onUnsubscribe(id uint32, s *slot, c *api.Control) {
	at := l.held(s, c.Subject)
	if at < 0 {
		l.replyError(id, s, c.Ref, api.CodeBadRequest, "this session is not subscribed to the subject")
		return
	}
	if !l.membershipAt(s, at).own() {
		e := l.extraOf(s)
		e.left = append(e.left, c.Subject)
	}
	l.giveUp(s, at)
	l.reply(id, s, api.AppendUnsubscribed(beginReply(), c.Ref, c.Subject))
}

// giveUp ends a membership, what is being replayed of it, and the interest in
// it.
func (l *loop) giveUp(s *slot, at int) {
	subject := l.subjectName(*l.membershipAt(s, at))
	l.cancelReplays(s, subject)
	l.forsake(subject)
	l.unsubscribe(s, at)
}

// onRenew has a new token verified, away from the loop. One at a time: tokens
// cost more than anything else a client can ask for.
func (l *loop) onRenew(id uint32, s *slot, c *api.Control) {
	if s.extra != 0 && l.extras[s.extra].renewing {
		l.replyError(id, s, c.Ref, api.CodeLimit, "another token of this session is being verified")
		return
	}
	gen, ref := s.gen, c.Ref
	taken := l.hub.check(&check{token: c.Token, done: func(identity auth.Identity, err error) {
		l.post(message{do: func(l *loop) { l.renewed(id, gen, ref, &identity, err) }})
	}})
	if !taken {
		l.replyError(id, s, ref, api.CodeUnavailable, "too many tokens are being verified")
		return
	}
	l.extraOf(s).renewing = true
}

// renewed goes on when a token was verified: the session lives as long as the
// new token says and may see what it says. Subscriptions that it does not grant
// end with a notice.
func (l *loop) renewed(id, gen uint32, ref string, identity *auth.Identity, err error) {
	s := l.slots.at(id)
	if s.gen != gen || s.state != stateOpen {
		return
	}
	e := l.extras[s.extra]
	e.renewing = false
	switch {
	case err != nil:
		refused := l.hub.refusalOf(err)
		l.hub.noteBadToken(err)
		code := api.CodeForbidden
		if refused.Kind == api.RefusedFull {
			code = api.CodeUnavailable
		}
		l.replyError(id, s, ref, code, refused.Message)
		return
	case identity.User != string(l.names.get(s.user)):
		l.close(id, s, api.ReasonOtherUser)
		return
	case l.hub.cfg.Verifier.Revoked(identity.User, identity.Issued):
		l.close(id, s, api.ReasonRevoked)
		return
	}
	s.expires, s.issued = unix32(identity.Expires), unix32(identity.Issued)
	l.dueAtLatest(id, s)
	l.setGrants(e, identity.Grants)
	lost := l.loseUngranted(s, identity)
	e.left = slices.DeleteFunc(e.left, func(subject string) bool { return !slices.Contains(identity.Subjects, subject) })
	missing := l.missing(s, identity)
	e.acquiring += len(missing) // what the client asks for meanwhile finds them counted
	finish := func(l *loop, s *slot) {
		e.renewing = false
		e.acquiring -= len(missing)
		for _, subject := range missing {
			if l.held(s, subject) < 0 {
				l.subscribe(id, s, subject, false)
			} else {
				l.forsake(subject)
			}
		}
		l.reply(id, s, api.AppendRenewed(beginReply(), ref, time.Unix(int64(s.expires), 0), l.subjectsOf(s)))
		for _, subject := range lost {
			l.reply(id, s, api.AppendUnsubscribed(beginReply(), "", subject))
		}
	}
	if l.hub.cfg.Interest == nil || len(missing) == 0 {
		finish(l, s)
		return
	}
	e.renewing = true // still
	l.hub.cfg.Interest.Acquire(missing, func() {
		l.post(message{do: func(l *loop) {
			if s := l.slots.at(id); s.gen == gen && s.state == stateOpen {
				finish(l, s)
				return
			}
			l.hub.cfg.Interest.Release(missing)
		}})
	})
}

// loseUngranted ends what a session may not have with a new identity, and
// marks what is left as the token's or the client's own. It returns what ended.
func (l *loop) loseUngranted(s *slot, identity *auth.Identity) (lost []string) {
	for i := int(s.nsubs) - 1; i >= 0; i-- {
		m := l.membershipAt(s, i)
		name := l.subjectName(*m)
		switch {
		case slices.Contains(identity.Subjects, name):
			m.subject &^= ownBit
		case identity.MaySubscribe(name):
			m.subject |= ownBit
		default:
			lost = append(lost, name)
			l.giveUp(s, i)
		}
	}
	return lost
}

// missing are the identity's subjects that the session does not have and did
// not give up. They go beyond limits.subjects where the client has used it up
// itself, but not beyond what a session can hold.
func (l *loop) missing(s *slot, identity *auth.Identity) (missing []string) {
	e := l.extras[s.extra]
	room := maxSubjects - l.wanted(s)
	for _, subject := range identity.Subjects {
		if len(missing) < room && l.held(s, subject) < 0 && leftBehind(e, subject) < 0 {
			missing = append(missing, subject)
		}
	}
	return missing
}
