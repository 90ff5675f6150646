package session

import (
	"cmp"
	"slices"
	"time"

	"pushgate/api"
)

// sliceSize is how many sessions a broadcast serves before others get a turn.
// More would save little and cost those who wait beside it their latency.
const sliceSize = 128

// sliceStep is after how many it is looked whether somebody waits: then the
// slice ends.
const sliceStep = 32

// broadcast is a delivery to many sessions, served in slices. Later events of
// the same subject wait for it and then go out together, in one write a
// session.
//
// A session gets stored events in the stream's order, or its newest cursor
// would say that it has what is still to come. So stored broadcasts are served
// one after the other, and a stored event for few that finds one under way takes
// along what its takers are owed (overtake).
type broadcast struct {
	subject  string
	events   []*delivery       // being served
	frames   [encodings][]byte // theirs, one behind the other, where somebody takes them so
	lists    []walk            // the takers
	seen     []uint64          // bit a session; only where several lists meet
	waiting  []*delivery       // later events of the same subject
	low      uint64            // the first stored sequence in events and waiting, 0 for none
	given    int               // sessions that got what is being served
	received time.Time
}

// walk is the way through one subject's takers.
type walk struct {
	subject   uint32
	done, end *int
}

// maxRun bounds the bytes of events that go out together; what is much of an
// outbox would make slow consumers of everybody.
func (h *Hub) maxRun() int { return min(32<<10, h.cfg.OutboxBytes/4) }

// deliver hands one event to the sessions that want it: at once when they are
// few, else as a broadcast in slices. parked reports that it waits behind a
// broadcast of its subject; it counts as waiting until that takes it.
func (l *loop) deliver(d *delivery) (parked bool) {
	if d.event.Seq > l.processed && d.epoch == l.epoch {
		l.processed = d.event.Seq
	}
	for _, b := range l.broadcasts {
		if b.subject == d.event.Subject {
			l.park(b, d)
			return true
		}
	}
	if d.stale(l.now) {
		l.hub.drops[DropExpired].Add(1)
		l.noteEvent(wasDropped, DropExpired, nil, d)
		d.receipt.give(0)
		return false
	}
	l.matched = l.subjects.match(l.matched[:0], d.event.Subject)
	total := 0
	for _, i := range l.matched {
		total += l.subjects.size(i)
	}
	switch {
	case total == 0:
		l.noteEvent(wasUnwanted, 0, nil, d)
		d.receipt.give(0)
		return false
	case total > sliceSize:
		l.box.bytes.Add(d.cost()) // nextRun takes it back
		l.startBroadcast(&broadcast{subject: d.event.Subject, waiting: []*delivery{d}})
		return false
	}
	l.takers = l.takers[:0]
	var one [1]uint32
	for _, i := range l.matched {
		l.takers = append(l.takers, l.subjects.takers(i, &one)...)
	}
	if len(l.matched) > 1 {
		slices.Sort(l.takers)
		l.takers = slices.Compact(l.takers)
	}
	given := 0
	for _, id := range l.takers {
		s := l.slots.at(id)
		if s.state != stateOpen || !l.isDue(s, d) {
			continue
		}
		if d.event.Seq > 0 && len(l.broadcasts) > 0 {
			l.overtake(id, s, d.event.Seq)
		}
		if s.state == stateOpen && l.queueEvent(id, s, d) {
			given++
			l.noteEvent(wasQueued, 0, s, d)
		}
	}
	l.delivered += given
	d.receipt.give(given)
	l.pending = append(l.pending, d.received)
	return false
}

// park has an event wait behind a broadcast of its subject, in the place of one
// that it replaces.
func (l *loop) park(b *broadcast, d *delivery) {
	if d.collapses() {
		for i, older := range b.waiting {
			if d.replaces(older) {
				l.hub.drops[DropCollapsed].Add(1)
				l.noteEvent(wasDropped, DropCollapsed, nil, older)
				older.receipt.give(0)
				l.box.bytes.Add(-older.cost())
				b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
				b.note()
				break
			}
		}
	}
	b.waiting = append(b.waiting, d)
	if b.low == 0 {
		b.low = d.event.Seq // not found anew: thousands may wait
	}
}

// note finds the lowest stored sequence of the broadcast again.
func (b *broadcast) note() {
	b.low = 0
	for _, some := range [...][]*delivery{b.events, b.waiting} {
		for _, d := range some {
			if d.event.Seq > 0 {
				b.low = d.event.Seq
				return
			}
		}
	}
}

// overtake gives a session the stored events below a sequence that broadcasts
// under way still owe it. They hold them back when its turn comes.
func (l *loop) overtake(id uint32, s *slot, seq uint64) {
	owed := l.owed[:0]
	for _, b := range l.broadcasts {
		if b.low == 0 || b.low >= seq {
			continue
		}
		if l.owes(b, id, s) {
			owed = appendStored(owed, b.events, seq, l.epoch)
		}
		if len(b.waiting) > 0 && l.takes(s, b.subject) {
			owed = appendStored(owed, b.waiting, seq, l.epoch)
		}
	}
	slices.SortFunc(owed, func(a, b *delivery) int { return cmp.Compare(a.event.Seq, b.event.Seq) })
	gen := s.gen
	for _, d := range owed {
		if s.state == stateOpen && !d.stale(l.now) && l.isDue(s, d) && l.queueEvent(id, s, d) {
			l.delivered++
		}
	}
	if len(owed) > 0 && s.gen == gen && s.state == stateOpen {
		l.addSkip(id, s, skip{seq: seq - 1, tick: l.tick})
	}
	clear(owed)
	l.owed = owed[:0]
}

func appendStored(to, from []*delivery, below uint64, epoch uint32) []*delivery {
	for _, d := range from {
		if d.event.Seq > 0 && d.event.Seq < below && d.epoch == epoch {
			to = append(to, d)
		}
	}
	return to
}

// owes reports whether the session's turn in what is being served is to come.
func (l *loop) owes(b *broadcast, id uint32, s *slot) bool {
	if word := int(id / 64); word < len(b.seen) && b.seen[word]&(1<<(id%64)) != 0 {
		return false
	}
	for i := range int(s.nsubs) {
		m := l.membershipAt(s, i).place()
		for _, w := range b.lists {
			if w.subject == m.subject && int(m.pos) >= *w.done && int(m.pos) < *w.end {
				return true
			}
		}
	}
	return false
}

// takes reports whether one of a session's subscriptions takes a subject.
func (l *loop) takes(s *slot, subject string) bool {
	for i := range int(s.nsubs) {
		if api.Match(l.subjectName(*l.membershipAt(s, i)), subject) {
			return true
		}
	}
	return false
}

// startBroadcast begins to serve what waits in b, and keeps l.box.count up as
// long as it lasts.
func (l *loop) startBroadcast(b *broadcast) {
	l.broadcasts = append(l.broadcasts, b)
	l.box.count.Add(1)
	l.nextRun(b)
}

// nextRun takes the next events that wait in b, up to maxRun bytes, and their
// takers of now.
func (l *loop) nextRun(b *broadcast) {
	b.events = b.events[:0]
	b.given = 0
	size, taken := 0, 0
	next := l.nextStored(b)
	for _, d := range b.waiting {
		if d.event.Seq > next && len(b.events) > 0 {
			break // others come between
		}
		if d.stale(l.now) {
			l.hub.drops[DropExpired].Add(1)
			l.noteEvent(wasDropped, DropExpired, nil, d)
			d.receipt.give(0)
			l.box.bytes.Add(-d.cost())
			taken++
			continue
		}
		// What may have to be taken back goes alone.
		alone := d.waits() || len(b.events) > 0 && b.events[0].waits()
		if size += len(d.text()); (size > l.hub.maxRun() || alone) && len(b.events) > 0 {
			break
		}
		b.events = append(b.events, d)
		taken++
		l.box.bytes.Add(-d.cost())
	}
	kept := copy(b.waiting, b.waiting[taken:])
	clear(b.waiting[kept:])
	b.waiting = b.waiting[:kept]
	b.note()
	if b.lists = b.lists[:0]; len(b.events) == 0 {
		return // all of them were too old: runSlice ends it
	}

	b.received = b.events[0].received
	b.frames = [encodings][]byte{}
	for _, d := range b.events {
		d.wide.Store(true)
	}
	l.matched = l.subjects.match(l.matched[:0], b.subject)
	for _, i := range l.matched {
		done, end := l.subjects.walk(i)
		b.lists = append(b.lists, walk{i, done, end})
	}
	// Who was served in the run before is not by that served in this one.
	b.seen = b.seen[:0]
	if len(b.lists) > 1 {
		words := int(l.slots.top+63) / 64
		if cap(b.seen) < words {
			b.seen = make([]uint64, 0, words)
		}
		b.seen = b.seen[:words]
		clear(b.seen)
	}
}

// nextStored is the lowest stored sequence that other broadcasts have to serve.
func (l *loop) nextStored(but *broadcast) uint64 {
	next := uint64(forever)
	for _, b := range l.broadcasts {
		if b != but && b.low > 0 {
			next = min(next, b.low)
		}
	}
	return next
}

// inTurn chooses the broadcast that is served next: each in turn, but of the
// stored ones only the first in the stream.
func (l *loop) inTurn() int {
	l.turn++
	at := l.turn % len(l.broadcasts)
	if low := l.broadcasts[at].low; low > 0 {
		for i, b := range l.broadcasts {
			if b.low > 0 && b.low < low {
				at, low = i, b.low
			}
		}
	}
	return at
}

// runSlice serves the next sessions of the broadcast whose turn it is.
func (l *loop) runSlice() {
	if len(l.broadcasts) == 0 {
		return
	}
	at := l.inTurn()
	b := l.broadcasts[at]
	room := sliceSize
	for len(b.lists) > 0 && room > 0 {
		if room < sliceSize && room%sliceStep == 0 && l.box.count.Load() > int64(len(l.broadcasts)+len(l.todo)) {
			return // somebody waits; it is this one's turn again soon
		}
		w := b.lists[0]
		if *w.done >= *w.end {
			l.subjects.leave(w.subject, w.done, w.end)
			b.lists = append(b.lists[:0], b.lists[1:]...)
			continue
		}
		var one [1]uint32
		id := l.subjects.takers(w.subject, &one)[*w.done]
		// First the mark, then the write: it may close the session, which
		// takes it out of the list.
		*w.done++
		room--
		if b.served(id) {
			continue
		}
		if s := l.slots.at(id); s.state == stateOpen {
			l.serve(id, s, b)
		}
	}
	if len(b.lists) > 0 {
		return
	}
	for _, d := range b.events {
		d.receipt.give(b.given)
	}
	l.noteBroadcast(b)
	if len(b.events) > 0 {
		l.observe(b.received)
	}
	if len(b.waiting) > 0 {
		l.nextRun(b)
		return
	}
	l.broadcasts = append(l.broadcasts[:at], l.broadcasts[at+1:]...)
	l.box.count.Add(-1)
}

// encoded returns the frames of what is being served, one behind the other.
func (b *broadcast) encoded(e encoding) []byte {
	if len(b.events) == 1 {
		return b.events[0].encoded(e)
	}
	if b.frames[e] == nil {
		// Sessions that are slow keep a reference: never reused.
		for _, d := range b.events {
			b.frames[e] = append(b.frames[e], d.encoded(e)...)
		}
	}
	return b.frames[e]
}

// serve gives a broadcast's events to one session.
func (l *loop) serve(id uint32, s *slot, b *broadcast) {
	if s.flags&(flagBehind|flagSkips) == 0 && s.transport() != transportPoll {
		if l.send(id, s, b.encoded(s.encoding()), b.events[0]) {
			l.delivered += len(b.events)
			b.given++
		}
		return
	}
	given := 0
	for _, d := range b.events {
		if s.state == stateOpen && l.isDue(s, d) && l.queueEvent(id, s, d) {
			given++
		}
	}
	l.delivered += given
	b.given += min(given, 1)
}

// served reports whether the session had its turn through another list, and
// notes that it has had it now. Sessions that joined after the broadcast began
// stand in no list that is walked.
func (b *broadcast) served(id uint32) bool {
	if len(b.seen) == 0 {
		return false
	}
	word, bit := id/64, uint64(1)<<(id%64)
	if b.seen[word]&bit != 0 {
		return true
	}
	b.seen[word] |= bit
	return false
}
