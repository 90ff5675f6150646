package session

import (
	"slices"
	"time"
)

// sliceSize is how many sessions a broadcast serves before others get a turn.
// More would save little and cost those who wait beside it their latency.
const sliceSize = 128

// broadcast is a delivery to many sessions, served in slices. Later events of
// the same subject wait for it and then go out together, in one write a
// session.
type broadcast struct {
	subject  string
	events   []*delivery // being served
	frames   []byte      // theirs, one behind the other
	lists    []walk      // the takers
	seen     []uint64    // bit a session; only where several lists meet
	waiting  []*delivery // later events of the same subject
	received time.Time
}

// walk is the way through one subject's takers.
type walk struct {
	subject   uint32
	done, end *int
}

// maxRun bounds the bytes of events that go out together; more than the
// outbox takes would make slow consumers of everybody.
const maxRun = 32 << 10

// deliver hands one event to the sessions that want it: at once when they are
// few, else as a broadcast in slices. parked reports that it waits behind a
// broadcast of its subject; it counts as waiting until that takes it.
func (l *loop) deliver(d *delivery) (parked bool) {
	for _, b := range l.broadcasts {
		if b.subject == d.event.Subject {
			b.waiting = append(b.waiting, d)
			return true
		}
	}
	l.matched = l.subjects.match(l.matched[:0], d.event.Subject)
	total := 0
	for _, i := range l.matched {
		total += l.subjects.size(i)
	}
	switch {
	case total == 0:
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
	frame := d.text()
	for _, id := range l.takers {
		if s := l.slots.at(id); s.state == stateOpen && l.queue(id, s, frame) {
			l.delivered++
		}
	}
	l.pending = append(l.pending, d.received)
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
	size := 0
	for _, d := range b.waiting {
		if size += len(d.text()); size > maxRun && len(b.events) > 0 {
			break
		}
		b.events = append(b.events, d)
		l.box.bytes.Add(-d.cost())
	}
	kept := copy(b.waiting, b.waiting[len(b.events):])
	clear(b.waiting[kept:])
	b.waiting = b.waiting[:kept]

	b.received = b.events[0].received
	b.frames = b.events[0].text()
	if len(b.events) > 1 {
		// Sessions that are slow keep a reference: never reused.
		b.frames = make([]byte, 0, size)
		for _, d := range b.events {
			b.frames = append(b.frames, d.text()...)
		}
	}
	l.matched = l.subjects.match(l.matched[:0], b.subject)
	b.lists = b.lists[:0]
	for _, i := range l.matched {
		done, end := l.subjects.walk(i)
		b.lists = append(b.lists, walk{i, done, end})
	}
	if len(b.lists) > 1 {
		words := int(l.slots.top+63) / 64
		if b.seen = b.seen[:0]; cap(b.seen) < words {
			b.seen = make([]uint64, 0, words)
		}
		b.seen = b.seen[:words]
		clear(b.seen)
	}
}

// runSlice serves the next sessions of the broadcast whose turn it is.
func (l *loop) runSlice() {
	if len(l.broadcasts) == 0 {
		return
	}
	l.turn++
	at := l.turn % len(l.broadcasts)
	b := l.broadcasts[at]
	room := sliceSize
	for len(b.lists) > 0 && room > 0 {
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
		if s := l.slots.at(id); s.state == stateOpen && l.send(id, s, b.frames) {
			l.delivered += len(b.events)
		}
	}
	if len(b.lists) > 0 {
		return
	}
	l.observe(b.received)
	if len(b.waiting) > 0 {
		l.nextRun(b)
		return
	}
	l.broadcasts = append(l.broadcasts[:at], l.broadcasts[at+1:]...)
	l.box.count.Add(-1)
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
