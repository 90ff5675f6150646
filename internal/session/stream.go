package session

import (
	"slices"

	"pushgate/api"
)

// Stream says of which stream events come from now on, and behind which place:
// positions that clients had in another one mean nothing any more. It is called
// like Deliver, before the first stored event. What comes up to newest was in
// the stream already, and fills the ring. Who was let in before the stream was
// known is given none of it, and told so: some of it may have come since.
func (h *Hub) Stream(at api.Position, newest uint64) {
	before := h.streamNow()
	h.announceMarks()
	h.ring.begin(at)
	h.streamID.Store(&at.Stream)
	h.routed.Store(at.Seq)
	h.filled.Store(newest)
	h.epoch++
	epoch := h.epoch
	if before != "" {
		h.tellAll(at, epoch)
	} else {
		h.everywhere(func(l *loop) {
			l.stream, l.epoch, l.throughAt = at.Stream, epoch, 0
			l.box.marks.Add(-1)
			for id := uint32(1); id < l.slots.top; id++ {
				if s := l.slots.at(id); s.state == stateOpen {
					l.addSkip(id, s, skip{seq: newest, tick: l.tick})
				}
			}
			if newest > 0 {
				l.tellSome(1, 0, epoch)
			}
		})
	}
}

// Lost says that stored events up to a sequence, which were due next, could not
// be got: whoever is connected may have missed some. It is called like Deliver.
func (h *Hub) Lost(through uint64) {
	h.announceMarks()
	h.ring.skip(through)
	h.routed.Store(through)
	h.tellAll(api.Position{Stream: h.streamNow(), Seq: through}, h.epoch)
}

// streamNow is the stream's identity, "" without one.
func (h *Hub) streamNow() string {
	if id := h.streamID.Load(); id != nil {
		return *id
	}
	return ""
}

// announceMarks keeps loops from believing what the hub says of the stream,
// until the mark has come to them that explains it.
func (h *Hub) announceMarks() {
	for _, l := range h.loops {
		l.box.marks.Add(1)
	}
}

// tellAll has every loop tell its sessions that they may have missed something
// up to a place.
func (h *Hub) tellAll(at api.Position, epoch uint32) {
	for _, l := range h.loops {
		// Behind the events that came before it.
		l.box.mark(&delivery{mark: func(l *loop) {
			if l.epoch != epoch {
				l.stream, l.epoch, l.caught = at.Stream, epoch, 0
				l.forgetPlaces(at.Seq)
			}
			l.processed, l.throughAt = at.Seq, 0
			l.box.marks.Add(-1)
			l.tellSome(1, at.Seq, epoch)
		}})
		if l.asleep.Load() {
			l.poller.Wake()
		}
	}
}

// forgetPlaces has no session depend on the stream from before.
func (l *loop) forgetPlaces(now uint64) {
	for id := uint32(1); id < l.slots.top; id++ {
		s := l.slots.at(id)
		if s.state != stateOpen || s.extra == 0 {
			continue
		}
		e := l.extras[s.extra]
		e.ahead, e.acked, e.kept = 0, 0, 0
		e.skips = slices.DeleteFunc(e.skips, func(k skip) bool { return k.replay == nil })
		for _, r := range e.replays {
			r.pos, r.since = now, now
		}
		l.cutReplays(id, s, now)
	}
}

// tellSlice is how many sessions a loop tells before others get a turn.
const tellSlice = 256

// tellSome tells the sessions from this one on, slice by slice, that history is
// not complete. Those that are still behind are told at their end.
func (l *loop) tellSome(from uint32, through uint64, epoch uint32) {
	if l.epoch != epoch {
		return // there is another stream by now, of which all are told
	}
	if l.through() < through {
		// A broadcast from before is not through.
		l.post(message{do: func(l *loop) { l.tellSome(from, through, epoch) }})
		return
	}
	id := from
	for n := 0; id < l.slots.top && n < tellSlice; id++ {
		s := l.slots.at(id)
		if s.state != stateOpen {
			continue
		}
		n++
		l.cutReplays(id, s, through)
		if s.extra != 0 {
			l.extras[s.extra].ahead = 0
		}
		if s.flags&flagBehind == 0 {
			l.resumed(id, s, &api.Resumed{Cursor: l.cursor(id, s)})
		}
	}
	if id < l.slots.top {
		l.post(message{do: func(l *loop) { l.tellSome(id, through, epoch) }})
	}
}

// through is the sequence up to which this loop has given its sessions all
// that they want.
func (l *loop) through() uint64 {
	if l.throughAt == l.turns {
		return l.throughSeq
	}
	// First what was given to the loops, then what of it still waits here:
	// the other way round something could slip by. What this loop has had
	// itself may be more, while others are still being given theirs.
	seq := l.hub.routed.Load()
	if l.box.marks.Load() > 0 {
		seq = 0 // that may be of another stream
	}
	seq = max(seq, l.processed)
	low := l.box.lowest(seq + 1)
	for _, d := range l.todo {
		if d != nil && d.event.Seq > 0 {
			low = min(low, d.event.Seq)
			break
		}
	}
	l.givenAt = min(seq, low-1)
	for _, b := range l.broadcasts {
		for _, d := range b.events {
			if d.event.Seq > 0 {
				low = min(low, d.event.Seq)
			}
		}
		for _, d := range b.waiting {
			if d.event.Seq > 0 {
				low = min(low, d.event.Seq)
			}
		}
	}
	l.throughAt, l.throughSeq = l.turns, min(seq, low-1)
	return l.throughSeq
}

// cursor is the place up to which a session has everything. It never goes back
// behind what the session was told before.
func (l *loop) cursor(id uint32, s *slot) string {
	seq := l.through()
	if s.flags&flagBehind != 0 {
		seq = l.extras[s.extra].replays[0].pos
		return api.Position{Stream: l.stream, Seq: seq}.Cursor()
	}
	had := l.givenAhead(s)
	if len(l.broadcasts) > 0 {
		seq = max(seq, l.givenTo(id, s, had))
	}
	seq = max(seq, had)
	if s.extra != 0 {
		seq = max(seq, l.extras[s.extra].ahead)
	}
	return api.Position{Stream: l.stream, Seq: seq}.Cursor()
}

// givenAhead is up to where a session was given everything, or began, while some
// of it still waits for this loop.
func (l *loop) givenAhead(s *slot) (seq uint64) {
	if s.flags&flagSkips == 0 {
		return 0
	}
	for _, k := range l.extras[s.extra].skips {
		if k.subject == "" && !k.ahead && k.replay == nil {
			seq = max(seq, k.seq)
		}
	}
	return seq
}

// givenTo is through for one session, while broadcasts are under way: one that
// has had its turn is not held up by those who have not. Its client may say so
// at once.
func (l *loop) givenTo(id uint32, s *slot, had uint64) uint64 {
	seq := l.givenAt
	for _, b := range l.broadcasts {
		if b.low == 0 || b.low > seq {
			continue
		}
		if l.owes(b, id, s) {
			seq = min(seq, firstStored(b.events, had)-1)
		}
		if len(b.waiting) > 0 && l.takes(s, b.subject) {
			seq = min(seq, firstStored(b.waiting, had)-1)
		}
	}
	return seq
}

// firstStored is the sequence of the first stored event behind a place.
func firstStored(some []*delivery, after uint64) uint64 {
	for _, d := range some {
		if d.event.Seq > after {
			return d.event.Seq
		}
	}
	return forever
}
