package bus

import (
	"time"

	"pushgate/api"
)

// order puts the live events of one stream in a row. It is a state and nothing
// else: no clock, no NATS, no lock.
//
//	handed on, or lost │ missing │ waiting, perhaps with gaps of their own
//	───────────────────┼─────────┼────────────────────────────────────────► seq
//	                  next                                           newest
//
// Behind a gap everything waits, and what does not fit is dropped: newest still
// says that it exists, so that it is fetched with the rest.
type order struct {
	next   uint64    // due next
	newest uint64    // the highest sequence that is known to exist, next-1 at least
	when   time.Time // the time of what was handed on last

	waiting []api.Event // ascending
	bytes   int         // of them

	maxWaiting, maxBytes int
}

// What waits behind a gap: about what a busy stream brings in the time that a
// cluster takes to find another leader.
const (
	maxWaiting      = 64 << 10
	maxWaitingBytes = 16 << 20
)

// verdict is where a live event belongs.
type verdict uint8

const (
	due     verdict = iota // hand it on
	early                  // something is missing before it: it waits, or comes with a repair
	late                   // it was handed on, or is lost
	foreign                // late by its sequence, but younger: the stream may be another one
)

// behind reports whether events exist that were not handed on.
func (o *order) behind() bool { return o.newest >= o.next }

// arrive takes a live event. With hold nothing is due.
func (o *order) arrive(e *api.Event, hold bool) verdict {
	switch {
	case e.Seq < o.next && e.Time.After(o.when):
		return foreign
	case e.Seq < o.next:
		return late
	case e.Seq == o.next && !hold && !o.behind():
		o.next, o.newest, o.when = e.Seq+1, e.Seq, e.Time
		return due
	case e.Seq > o.newest:
		o.newest = e.Seq
		o.wait(e)
	}
	return early
}

func (o *order) wait(e *api.Event) {
	size := eventBytes(e)
	if len(o.waiting) >= o.maxWaiting || o.bytes+size > o.maxBytes {
		o.waiting, o.bytes = nil, 0
	}
	if size <= o.maxBytes {
		o.waiting = append(o.waiting, *e)
		o.bytes += size
	}
}

// eventBytes is what an event that waits takes, about.
func eventBytes(e *api.Event) int { return e.Size() + len(e.Subject) + 256 }

// know notes that a sequence exists.
func (o *order) know(seq uint64) { o.newest = max(o.newest, seq) }

// disprove notes that nothing exists behind a sequence. What is dropped though
// it does comes again as a gap.
func (o *order) disprove(last uint64) {
	o.newest = max(last, o.next-1)
	n := len(o.waiting)
	for ; n > 0 && o.waiting[n-1].Seq > o.newest; n-- {
		o.bytes -= eventBytes(&o.waiting[n-1])
	}
	clear(o.waiting[n:])
	if o.waiting = o.waiting[:n]; n == 0 {
		o.waiting = nil
	}
}

// ready takes up to limit of the waiting events that are due.
func (o *order) ready(limit int) []api.Event {
	n := 0
	for n < min(limit, len(o.waiting)) && o.waiting[n].Seq == o.next {
		e := &o.waiting[n]
		o.next, o.when = e.Seq+1, e.Time
		o.bytes -= eventBytes(e)
		n++
	}
	events := o.waiting[:n]
	if o.waiting = o.waiting[n:]; len(o.waiting) == 0 {
		o.waiting = nil
	}
	return events
}

// gap is what has to be fetched: behind after, up to through. It is false when
// nothing is missing, or only what waits is.
func (o *order) gap() (after, through uint64, missing bool) {
	through = o.newest
	if len(o.waiting) > 0 {
		through = o.waiting[0].Seq - 1
	}
	return o.next - 1, through, through >= o.next
}

// pass notes that everything up to through was fetched, or is lost. It lies in
// the gap.
func (o *order) pass(through uint64) { o.next = max(o.next, through+1) }

// restart begins anew.
func (o *order) restart(next, newest uint64, when time.Time) {
	o.next, o.newest, o.when = next, newest, when
	o.waiting, o.bytes = nil, 0
}
