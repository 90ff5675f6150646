package session

import (
	"sort"
	"sync"
	"time"

	"pushgate/api"
)

// ring holds the newest stored events, in stream order, bounded in bytes and
// age: who comes back with a place inside it gets what it missed from here, and
// NATS hears nothing of it. Deliver appends an event before any loop sees it;
// loops read. Its lock is held for looking only: nobody encodes or writes under
// it.
//
// Events of a subject are chained from the newest back, so that a usual
// reconnect walks over what it missed and nothing else.
type ring struct {
	limit  int64 // bytes
	maxAge time.Duration

	mu      sync.RWMutex
	stream  string // whose events these are; empty before the first
	entries []ringEntry
	head    uint64            // place of the oldest; places count up for ever
	tail    uint64            // place of the next
	newest  map[string]uint64 // by subject: place of its newest event, plus one
	bytes   int64
	after   uint64 // all events behind this sequence
	last    uint64 // up to this one are here
}

type ringEntry struct {
	d      *delivery
	before uint64 // place of the subject's event before it, plus one; 0 is none
}

func (r *ring) at(place uint64) *ringEntry { return &r.entries[place&uint64(len(r.entries)-1)] }

// begin empties the ring: the next event is the one behind at.
func (r *ring) begin(at api.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream = at.Stream
	r.clear(at.Seq)
}

// skip empties the ring, because events up to a sequence are not to be had.
func (r *ring) skip(through uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear(through)
}

func (r *ring) clear(after uint64) {
	for place := r.head; place < r.tail; place++ {
		r.at(place).d.held = false
	}
	r.entries, r.head, r.tail, r.bytes = nil, 0, 0, 0
	r.newest = map[string]uint64{}
	r.after, r.last = after, after
}

// add appends the next event and lets the oldest go that there is no room or no
// time for.
func (r *ring) add(d *delivery, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.ring, d.held = r, true
	r.bytes += r.cost(d)
	for r.head < r.tail && (r.bytes > r.limit || r.maxAge > 0 && now.Sub(r.at(r.head).d.event.Time) > r.maxAge) {
		r.drop()
	}
	if int(r.tail-r.head) == len(r.entries) {
		r.grow()
	}
	subject := d.event.Subject
	*r.at(r.tail) = ringEntry{d, r.newest[subject]}
	r.tail++
	r.newest[subject] = r.tail
	r.last = d.event.Seq
}

// pass notes that the event of a sequence is wanted by nobody.
func (r *ring) pass(seq uint64) {
	r.mu.Lock()
	r.last = seq
	r.mu.Unlock()
}

// cost is what an event takes here: with its frame, which has its payload, and
// the index.
func (r *ring) cost(d *delivery) int64 { return d.cost() + d.grown + int64(len(d.event.Subject)) }

// grew notes that an event was put into one more encoding.
func (r *ring) grew(d *delivery, by int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.grown += by
	if d.held {
		r.bytes += by
	}
}

func (r *ring) drop() {
	e := r.at(r.head)
	r.head++
	r.bytes -= r.cost(e.d)
	e.d.held = false
	r.after = e.d.event.Seq
	if r.newest[e.d.event.Subject] == r.head {
		delete(r.newest, e.d.event.Subject)
	}
	*e = ringEntry{}
}

func (r *ring) grow() {
	bigger := make([]ringEntry, max(1024, 2*len(r.entries)))
	for place := r.head; place < r.tail; place++ {
		bigger[place&uint64(len(bigger)-1)] = *r.at(place)
	}
	r.entries = bigger
}

// span is what the ring covers: all events behind after, up to last.
func (r *ring) span() (after, last uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.after, r.last
}

const (
	// ringWalk is how many events a look walks back over; for more it goes
	// forward.
	ringWalk = 512
	// ringScan is how many events a look passes over, wanted or not.
	ringScan = 4096
)

// read appends to dst the events behind a sequence that meet the patterns, in
// order, about so many bytes of them (with [api.EventOverhead]). Up to through nothing is left out; all
// says that this is the ring's end. ok is false when the ring does not reach
// back that far.
func (r *ring) read(dst []*delivery, patterns []string, after uint64, bytes int) (got []*delivery, through uint64, all, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if after < r.after {
		return dst, after, false, false
	}
	if after >= r.last {
		return dst, after, true, true
	}
	if got, ok := r.walk(dst, patterns, after, bytes); ok {
		return got, r.last, true, true
	}
	place := r.head + uint64(sort.Search(int(r.tail-r.head), func(i int) bool {
		return r.at(r.head+uint64(i)).d.event.Seq > after
	}))
	through = after
	for n := 0; place < r.tail && n < ringScan && bytes > 0; n++ {
		d := r.at(place).d
		if meets(patterns, d.event.Subject) {
			dst = append(dst, d)
			bytes -= int(d.size) + api.EventOverhead
		}
		through = d.event.Seq
		place++
	}
	if place == r.tail {
		return dst, r.last, true, true
	}
	return dst, through, false, true
}

// walk goes back from the newest event of each subject. It gives up where that
// would be too much, or a pattern could mean any subject.
func (r *ring) walk(dst []*delivery, patterns []string, after uint64, bytes int) (got []*delivery, ok bool) {
	began := len(dst)
	for _, p := range patterns {
		if api.HasWildcard(p) {
			return dst[:began], false
		}
		for next := r.newest[p]; next > r.head; {
			e := r.at(next - 1)
			if e.d.event.Seq <= after {
				break
			}
			dst = append(dst, e.d)
			if bytes -= int(e.d.size) + api.EventOverhead; len(dst)-began > ringWalk || bytes < 0 {
				return dst[:began], false
			}
			next = e.before
		}
	}
	found := dst[began:]
	sort.Slice(found, func(i, j int) bool { return found[i].event.Seq < found[j].event.Seq })
	return dst, true
}

// newestOf returns a literal subject's newest event, if it is here.
func (r *ring) newestOf(subject string) (d *delivery, last uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if next := r.newest[subject]; next > r.head {
		d = r.at(next - 1).d
	}
	return d, r.last
}

func meets(patterns []string, subject string) bool {
	for _, p := range patterns {
		if p == subject || api.HasWildcard(p) && api.Match(p, subject) {
			return true
		}
	}
	return false
}

// sweep keeps the ring's age, where no event comes to do it.
func (r *ring) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.maxAge > 0 && r.head < r.tail && now.Sub(r.at(r.head).d.event.Time) > r.maxAge {
		r.drop()
	}
}

// size is what the ring holds now.
func (r *ring) size() (events int, bytes int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return int(r.tail - r.head), r.bytes
}

// age is how long ago the oldest event in the ring was stored: so long may a
// client be away, and NATS hears nothing of its return.
func (r *ring) age(now time.Time) time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.head == r.tail {
		return 0
	}
	return max(now.Sub(r.at(r.head).d.event.Time), 0)
}
