package session

import (
	"slices"

	"pushgate/api"
	"pushgate/internal/poll"
)

// Policy is what becomes of the events of a subject that wait for a client that
// reads too slowly.
type Policy uint8

// The policies.
const (
	// PolicyDisconnect ends the session: it comes back with its cursor, and
	// nothing is missed of what is stored.
	PolicyDisconnect Policy = iota
	// PolicyDropOldest drops what has waited longest, and says so.
	PolicyDropOldest
	// PolicyLatest keeps of each subject, or of each collapse key of it, the
	// newest only: for state, of which only the last counts.
	PolicyLatest
)

// SlowRule gives a policy to the subjects that meet a pattern. Of several rules
// the first counts.
type SlowRule struct {
	Pattern string
	Policy  Policy
}

// policyOf is the policy of a subject.
func (h *Hub) policyOf(subject string) Policy {
	for i := range h.cfg.Slow {
		if api.Match(h.cfg.Slow[i].Pattern, subject) {
			return h.cfg.Slow[i].Policy
		}
	}
	return PolicyDisconnect
}

// segmentCost is what a waiting event takes beside its frame, which others may
// share.
const segmentCost = 48

// held is what an outbox is reckoned to hold.
func (t *traffic) held() int { return t.outBytes + len(t.out)*segmentCost }

// gap is how many events of a subject were dropped for a session that has not
// been told yet.
type gap struct {
	subject string
	count   int
}

// makeRoom drops, oldest first, events that may be dropped, until so many bytes
// fit. It reports whether they do.
func (l *loop) makeRoom(s *slot, t *traffic, bytes int) bool {
	if !t.waits {
		return false
	}
	limit := l.outboxLimit(s)
	held := t.held() + bytes + segmentCost
	kept := t.out[:0]
	for _, seg := range t.out {
		if held <= limit || seg.event == nil || seg.sent > 0 || seg.event.policy == PolicyDisconnect {
			kept = append(kept, seg)
			continue
		}
		held -= len(seg.frames) + segmentCost
		t.outBytes -= len(seg.frames)
		l.stats.outbox.Add(-int64(len(seg.frames)))
		l.noteDrop(s, t, seg.event)
	}
	clear(t.out[len(kept):])
	t.out = kept
	return held <= limit
}

// noteDrop counts an event that a session does not get, and has it told.
func (l *loop) noteDrop(s *slot, t *traffic, d *delivery) {
	l.hub.drops[DropSlow].Add(1)
	l.noteEvent(wasDropped, DropSlow, s, d)
	if s.transport() == transportPoll {
		l.pollOf(s).complete = false // its answer has no other way to say so
		return
	}
	subject := d.event.Subject
	at := slices.IndexFunc(t.gaps, func(g gap) bool { return g.subject == subject })
	if at < 0 {
		t.gaps = append(t.gaps, gap{subject: subject})
		at = len(t.gaps) - 1
	}
	t.gaps[at].count++
}

// tellGaps puts what was dropped in front of what is left: that is where the gap
// is.
func (l *loop) tellGaps(s *slot, t *traffic) {
	if len(t.gaps) == 0 || s.state != stateOpen {
		return
	}
	var told []segment
	for _, g := range t.gaps {
		frame := s.framed(api.AppendDropped(beginReply(), g.subject, g.count))
		told = append(told, segment{frames: frame})
		t.outBytes += len(frame)
		l.stats.outbox.Add(int64(len(frame)))
	}
	t.gaps = nil
	at := 0
	if len(t.out) > 0 && t.out[0].sent > 0 {
		at = 1
	}
	t.out = slices.Insert(t.out, at, told...)
}

// stalledCost is what the kernel may hold for a session whose socket is full:
// its send buffer, which it reckons twice.
const stalledCost = 2 * poll.SendBuffer

// heldAll is what waits in all outboxes and in the kernel for clients that do
// not read.
func (h *Hub) heldAll() int64 {
	n := int64(0)
	for _, l := range h.loops {
		n += l.stats.outbox.Load() + l.stats.stalled.Load()*stalledCost
	}
	return n
}

// shedSlowest ends the slowest sessions of this loop when all outboxes together
// hold more than they may, before the kernel ends the process.
func (l *loop) shedSlowest() {
	h := l.hub
	limit := h.cfg.OutboxesBytes
	if asked := l.toFree.Swap(0); asked > 0 {
		l.endSlowest(asked)
		return
	}
	if limit == 0 || l.stats.stalled.Load() == 0 {
		return
	}
	all := h.heldAll()
	if all <= limit {
		return
	}
	own := l.stats.outbox.Load() + l.stats.stalled.Load()*stalledCost
	l.endSlowest((all - limit*9/10) * own / all)
}

// endSlowest ends sessions that do not read, those that hold most first, until
// so many bytes are free.
func (l *loop) endSlowest(bytes int64) {
	type held struct {
		id    uint32
		bytes int
	}
	var slow []held
	for i, t := range l.active {
		if i == 0 || !t.full || l.slots.at(t.owner).state != stateOpen {
			continue
		}
		slow = append(slow, held{t.owner, t.held()})
	}
	slices.SortFunc(slow, func(a, b held) int { return b.bytes - a.bytes })
	for _, s := range slow {
		if bytes <= 0 {
			return
		}
		bytes -= int64(s.bytes + stalledCost)
		l.close(s.id, l.slots.at(s.id), api.ReasonOverload)
	}
}

// Relieve has the loops end their slowest sessions, until about so many bytes
// are free. It never waits.
func (h *Hub) Relieve(bytes int64) {
	all := h.heldAll()
	if all == 0 || bytes <= 0 {
		return
	}
	for _, l := range h.loops {
		own := l.stats.outbox.Load() + l.stats.stalled.Load()*stalledCost
		l.toFree.Store(max(bytes, 1) * own / all)
		l.post(message{do: func(*loop) {}})
	}
}

// Strain has the hub take no new clients while memory is short.
func (h *Hub) Strain(on bool) { h.strained.Store(on) }
