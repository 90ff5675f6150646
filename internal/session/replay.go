package session

import (
	"errors"
	"slices"

	"pushgate/api"
)

// replay is what a session is still to get of the stored stream: all its
// subjects, when it came back with a cursor, or one that it has subscribed to
// with a place. It is pulled, a piece at a time, as the client reads: from the
// ring as far as that reaches back, and before that from NATS. Live events
// are not kept for a session that is behind: they lie in the ring, and it comes
// to them.
//
// A session stands in the index before its replay looks at the ring, so that
// nothing falls in between. The end of a replay is the ring's end; what was
// added to the ring before and reaches this loop only now would come once more:
// skips hold it back.
type replay struct {
	whole   bool   // all the session's subjects; its events move the client's cursor
	subject string // else
	ref     string

	pos      uint64 // all up to it was sent
	since    uint64 // where it began: what else brings its subjects live brings them behind it
	until    uint64 // the end, where the subject itself comes live already; 0: the ring's
	ahead    bool   // its place is beyond what this gateway has
	newest   bool   // first only the newest event of each subject
	start    bool   // from what is the stream's first event by now, whichever that is
	complete bool
	sent     int

	fetching bool
	fetches  int // counts them, so that an answer that came too late is known
}

const (
	// pullBytes is a piece of a replay, and how much may wait in the outbox
	// before the next.
	pullBytes = 32 << 10
	// pullSteps is how many pieces a session gets before others have a turn.
	pullSteps = 4
	// pullTurn is how many sessions get pieces before the loop polls again.
	pullTurn = 64
	// maxReplays is how many a session may have under way.
	maxReplays = 16
)

// newReplay is what a subscribe with a place asks for. With a place that is
// none in this stream nothing is known of what came since: it begins now.
func (l *loop) newReplay(c *api.Control) *replay {
	r := &replay{subject: c.Subject, ref: c.Ref, complete: true, newest: c.From == "last", start: c.From == "start"}
	if c.Cursor == "" {
		return r
	}
	at, ok := api.ParseCursor(c.Cursor)
	if r.pos = at.Seq; !ok || at.Stream != l.stream {
		r.pos, r.complete = l.through(), false
	}
	r.ahead = r.pos > l.through()
	return r
}

// resume begins the replay of a session that came with a cursor.
func (l *loop) resume(id uint32, s *slot, cursor string) {
	at, ok := api.ParseCursor(cursor)
	// What this gateway has: this loop may be behind it, and some of it never
	// comes here, because nobody on this loop wanted it when it came.
	_, last := l.hub.ring.span()
	switch {
	case l.stream == "" || !ok || at.Stream != l.stream:
		l.countReplay(replaySession, replayIncomplete)
		l.resumed(id, s, &api.Resumed{Cursor: l.beginNow(id, s)})
	case at.Seq > max(last, l.through()):
		// Another gateway was ahead of this one: what the client has it does
		// not get again.
		l.extraOf(s).ahead = at.Seq
		if s.transport() == transportPoll {
			l.awaitPlace(s)
		}
		l.addSkip(id, s, skip{seq: at.Seq, tick: l.tick, ahead: true})
		l.countReplay(replaySession, replayRing)
		l.resumed(id, s, &api.Resumed{Complete: true, Cursor: cursor})
	default:
		s.flags |= flagBehind
		l.beginReplay(id, s, &replay{whole: true, complete: true, pos: at.Seq})
	}
}

// beginNow has a session that stands in the index begin at the ring's end, and
// returns that place, "" without a stream. What was added to the ring before may
// have been given to the loops without this session, or with it: it gets none
// of it.
func (l *loop) beginNow(id uint32, s *slot) string {
	if l.stream == "" {
		return ""
	}
	_, last := l.hub.ring.span()
	last = max(last, l.hub.filled.Load())
	l.addSkip(id, s, skip{seq: last, tick: l.tick})
	return api.Position{Stream: l.stream, Seq: last}.Cursor()
}

func (l *loop) beginReplay(id uint32, s *slot, r *replay) {
	e := l.extraOf(s)
	e.replays = append(e.replays, r)
	s.flags |= flagReplays
	r.since = l.through()
	l.pull(id, s)
}

// replays is how many are under way.
func (l *loop) replays(s *slot) int {
	if s.flags&flagReplays == 0 {
		return 0
	}
	return len(l.extras[s.extra].replays)
}

// replayOf is the replay that has to end before a subject comes live, nil for
// none.
func (l *loop) replayOf(s *slot, subject string) *replay {
	if s.flags&flagReplays == 0 {
		return nil
	}
	for _, r := range l.extras[s.extra].replays {
		if !r.whole && r.until == 0 && r.subject == subject {
			return r
		}
	}
	return nil
}

// cancelReplays ends a subject's replays before their time: it goes.
func (l *loop) cancelReplays(s *slot, subject string) {
	if s.flags&flagReplays == 0 {
		return
	}
	e := l.extras[s.extra]
	e.skips = slices.DeleteFunc(e.skips, func(k skip) bool { return k.replay != nil && k.replay.subject == subject })
	l.dropReplays(s, func(r *replay) bool { return !r.whole && r.subject == subject })
}

func (l *loop) dropReplays(s *slot, which func(*replay) bool) {
	e := l.extras[s.extra]
	e.replays = slices.DeleteFunc(e.replays, which)
	if len(e.replays) == 0 {
		e.replays = nil
		s.flags &^= flagReplays
	}
}

// cutReplays has replays go on behind a place: what lies before it is not to be
// had, or of another stream.
func (l *loop) cutReplays(id uint32, s *slot, through uint64) {
	if s.flags&flagReplays == 0 {
		return
	}
	for _, r := range l.extras[s.extra].replays {
		r.complete, r.pos, r.fetching = false, max(r.pos, through), false
		r.fetches++
		if r.until > 0 {
			r.until = r.pos
		}
	}
	l.pullLater(tagSession(id, s.gen))
}

// runPulls goes on with the replays of sessions that have room.
func (l *loop) runPulls() {
	n := min(len(l.pulls), pullTurn)
	for _, tag := range l.pulls[:n] {
		id, gen := uint32(tag), uint32(tag>>32)
		if s := l.slots.at(id); s.gen == gen && s.state == stateOpen {
			l.pull(id, s)
		}
	}
	l.pulls = append(l.pulls[:0], l.pulls[n:]...)
	l.pulling.Store(len(l.pulls) > 0)
}

// pullLater has a session's replays go on when it is its turn.
func (l *loop) pullLater(tag uint64) {
	l.pulls = append(l.pulls, tag)
	l.pulling.Store(true)
}

// hasRoom reports whether a session's outbox takes another piece of a replay. A
// poll's answer is made of all of it.
func (l *loop) hasRoom(s *slot) bool {
	room := pullBytes
	if s.transport() == transportPoll {
		if l.pollOf(s).full {
			return false
		}
		room = l.hub.cfg.PollBytes
	}
	return s.active == 0 || l.active[s.active].outBytes <= room
}

// pull gives a session the next pieces of its replays, as far as there is room
// in its outbox. When that is empty again, more is pulled.
func (l *loop) pull(id uint32, s *slot) {
	for range pullSteps {
		if s.state != stateOpen || s.flags&flagReplays == 0 || !l.hasRoom(s) {
			return
		}
		r := l.extras[s.extra].replays[0]
		if r.fetching {
			return
		}
		l.step(id, s, r)
	}
	l.pullLater(tagSession(id, s.gen))
}

// wholeOf are the subjects that a whole session's replay brings: all that have
// none of their own.
func (l *loop) wholeOf(s *slot) []string {
	return slices.DeleteFunc(l.subjectsOf(s), func(subject string) bool { return l.replayOf(s, subject) != nil })
}

// step takes one piece of a replay.
func (l *loop) step(id uint32, s *slot, r *replay) {
	patterns := []string{r.subject}
	if r.whole {
		patterns = l.wholeOf(s)
	}
	if r.newest {
		l.stepNewest(id, s, r, patterns)
		return
	}
	if r.until > 0 && r.pos >= r.until {
		l.finishReplay(id, s, r)
		return
	}
	got, through, all, ok := l.hub.ring.read(l.found[:0], patterns, r.pos, pullBytes)
	l.found = got[:0]
	if !ok {
		l.fetch(id, s, r, patterns)
		return
	}
	if r.until > 0 && through >= r.until {
		all, through = true, r.until
		got = slices.DeleteFunc(got, func(d *delivery) bool { return d.event.Seq > r.until })
	}
	if all = l.giveReplay(id, s, r, got, through) && all; all {
		l.finishReplay(id, s, r)
	}
	clear(got)
}

// stepNewest begins a replay with the newest event of each subject. A literal
// subject's is often still in the ring.
func (l *loop) stepNewest(id uint32, s *slot, r *replay, patterns []string) {
	if !api.HasWildcard(r.subject) {
		if d, last := l.hub.ring.newestOf(r.subject); d != nil && (r.until == 0 || d.event.Seq <= r.until) {
			r.newest = false
			l.giveReplay(id, s, r, []*delivery{d}, last)
			return
		}
	}
	l.fetch(id, s, r, patterns)
}

// fetch asks NATS for what the ring has not, up to where the ring begins.
func (l *loop) fetch(id uint32, s *slot, r *replay, patterns []string) {
	through, last := l.hub.ring.span()
	if r.newest {
		through = last
	}
	if r.until > 0 {
		through = min(through, r.until)
	}
	if l.hub.cfg.History == nil || through == 0 {
		r.complete, r.newest, r.pos = r.complete && through == 0, false, through
		return
	}
	r.fetching = true
	r.fetches++
	gen, number := s.gen, r.fetches
	ask := api.Fetch{Stream: l.stream, Subjects: patterns, After: r.pos, Through: through, Bytes: pullBytes, Last: r.newest}
	l.hub.cfg.History.Fetch(ask, func(p api.Page, err error) {
		l.post(message{do: func(l *loop) {
			if s := l.slots.at(id); s.gen == gen && s.state == stateOpen && r.fetches == number {
				l.fetched(id, s, r, &ask, &p, err)
			}
		}})
	})
}

// fetched goes on with what NATS has brought. What cannot be had is not waited
// for: the client is told.
func (l *loop) fetched(id uint32, s *slot, r *replay, ask *api.Fetch, p *api.Page, err error) {
	if s.flags&flagReplays == 0 || !slices.Contains(l.extras[s.extra].replays, r) {
		return // the subject is gone
	}
	r.fetching = false
	newest := r.newest
	r.newest = false
	switch {
	case err == nil:
		got := make([]*delivery, 0, len(p.Events))
		subjects := ask.Subjects
		if r.whole {
			subjects = l.wholeOf(s)
		}
		changed := !slices.Equal(subjects, ask.Subjects)
		for i := range p.Events {
			if changed && !meets(subjects, p.Events[i].Subject) || !l.hub.mayEnter(&p.Events[i]) {
				continue // given up, or lost, while NATS was asked; or nothing to be sent
			}
			got = append(got, &delivery{event: p.Events[i], received: l.now, epoch: l.epoch, size: int64(p.Events[i].Size())})
		}
		l.giveReplay(id, s, r, got, p.Through)
		r.complete = r.complete && (newest || r.start && ask.After == 0 || !p.Trimmed)
	case errors.Is(err, api.ErrTooMany):
		l.replyError(id, s, r.ref, api.CodeLimit, "more subjects match than the newest events can be looked up of")
		r.pos, r.complete = ask.Through, false
	default:
		r.pos, r.complete = ask.Through, false
	}
	l.pull(id, s)
}

// giveReplay queues events of a replay: none whose time is over, and of those
// that replace each other the newest. They are all that there is up to through.
// It reports false where an answer to a poll has no room for the rest.
func (l *loop) giveReplay(id uint32, s *slot, r *replay, got []*delivery, through uint64) bool {
	for i, d := range got {
		if d.stale(l.now) {
			l.noteEvent(wasDropped, DropExpired, s, d)
			continue
		}
		if d.event.Collapse != "" && slices.ContainsFunc(got[i+1:], func(newer *delivery) bool { return newer.replaces(d) }) {
			l.noteEvent(wasDropped, DropCollapsed, s, d)
			continue
		}
		frame := d.encoded(s.encoding())
		if s.transport() == transportPoll && l.leavesFor(s, len(frame)) {
			l.touch(id, l.trafficOf(id, s))
			return false
		}
		r.pos = d.event.Seq
		if !r.whole {
			if d.event.Seq > r.since && l.comesAnyhow(s, r.subject, d.event.Subject) {
				continue // it came, or comes, as it is
			}
			frame = d.replayed()
		}
		r.sent++
		l.delivered++
		l.stats.replayed.Add(1)
		seg := segment{frames: frame}
		if !d.event.Expires.IsZero() {
			seg.event = d // it may be too old before it is sent
		}
		l.enqueue(id, l.trafficOf(id, s), seg)
	}
	r.pos = through
	return true
}

// finishReplay says how it went and lets the session have what comes live.
func (l *loop) finishReplay(id uint32, s *slot, r *replay) {
	l.dropReplays(s, func(other *replay) bool { return other == r })
	l.notePlace(wasReplayed, s, r.pos, r.sent)
	l.countReplay(r.outcome())
	// Of one subject, r.pos says nothing of the others: the session's place is
	// where all of them are through.
	var cursor string
	switch {
	case r.whole:
		s.flags &^= flagBehind
		l.addSkip(id, s, skip{seq: r.pos, tick: l.tick})
		cursor = api.Position{Stream: l.stream, Seq: r.pos}.Cursor()
	case r.until == 0:
		for i := range l.extras[s.extra].skips {
			if k := &l.extras[s.extra].skips[i]; k.replay == r {
				k.seq, k.since, k.replay, k.tick = r.pos, r.since, nil, l.tick
				k.ahead, k.ref = r.ahead, r.ref
			}
		}
		fallthrough
	default:
		cursor = l.cursor(id, s)
	}
	l.resumed(id, s, &api.Resumed{Ref: r.ref, Complete: r.complete, Replayed: r.sent, Cursor: cursor})
}
