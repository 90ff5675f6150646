package session

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/poll"
)

// loop is one thread's share of the sessions. Its epoll thread holds mu while
// it works; who brings an event may enter by TryLock, and posts to the mailbox
// when that fails. Nobody else touches anything below mu.
type loop struct {
	hub    *Hub
	number int
	poller *poll.Poller
	box    mailbox
	asleep atomic.Bool // in Wait, or about to be
	stats  loopStats
	done   chan struct{} // closed when run has returned

	// What sessions of this loop hold besides subjects whose name leads
	// here, for Hub.route.
	roaming roaming

	mu   sync.Mutex
	now  time.Time
	tick uint16

	slots    slab
	names    names
	users    table
	subjects index
	moved    func(uint32, membership) // membershipMoved, bound once

	extras     []*extra // index 0 is none, here and below
	grants     map[string]*heldGrants
	freeExtras []uint32
	active     []*traffic
	idleActive []uint32

	turns      uint64
	lag        lag
	stream     string // that this loop's events are of; the hub's may be a newer one
	epoch      uint32 // counts streams
	processed  uint64 // the newest stored event that this loop has had
	caught     uint64 // up to it events came from the ring: not once more
	throughAt  uint64 // the turn in which throughSeq was found
	throughSeq uint64
	givenAt    uint64       // then: where it would be, but for broadcasts under way
	toFree     atomic.Int64 // bytes of slow clients that Relieve wants back
	pulling    atomic.Bool  // there are pulls
	flight     flight
	pollers    map[string]poller // by user; where presence is told
	alarms     alarms
	pulls      []uint64 // tags of sessions that are behind and have room
	skipping   []uint64 // tags of sessions with skips
	acking     []uint64 // tags of sessions whose place is to be kept

	touched    []uint32 // sessions to be written at the end of the tick
	delivered  int      // deliveries of this tick
	pending    []time.Time
	broadcasts []*broadcast
	turn       int
	todo       []*delivery // taken from the mailbox
	spare      []*delivery
	calls      []message
	matched    []uint32
	found      []*delivery // in the ring
	takers     []uint32
	owed       []*delivery

	heads     []*head // half-open connections; index 0 is none
	freeHeads []uint32
	paused    bool // accepting waits for descriptors
	shed      int  // connections turned away for want of one, since the last sweep
	listening bool
	refusing  bool   // a drain is at its end: no new sessions
	drainAt   uint32 // where the drain stands
	stopping  bool

	input   []byte // what was read last
	scratch []byte // what is written next
	reader  bytes.Reader
	inflate inflater
}

const (
	inputSize   = 64 << 10
	scratchSize = 64 << 10
	// turnSize is how many messages a loop takes before it polls again.
	turnSize = 256
)

func newLoop(h *Hub, number int) (*loop, error) {
	p, err := poll.Open()
	if err != nil {
		return nil, err
	}
	l := &loop{
		hub: h, number: number, poller: p,
		now:     h.cfg.Now(),
		extras:  make([]*extra, 1),
		grants:  make(map[string]*heldGrants),
		active:  make([]*traffic, 1),
		heads:   make([]*head, 1),
		input:   make([]byte, inputSize),
		scratch: make([]byte, scratchSize),
		done:    make(chan struct{}),
	}
	l.box.limit = mailboxBytes
	l.flight = newFlight(h.cfg.FlightEvents, h.cfg.Loops)
	if h.cfg.Presence != nil {
		l.pollers = make(map[string]poller)
	}
	l.moved = l.membershipMoved
	l.subjects.init(&l.names, h.hash)
	l.users.hash = h.hash
	l.users.name = func(id uint32) []byte { return l.names.get(l.slots.at(id).user) }
	return l, nil
}

// run is the loop's thread. It returns after stopping is set.
func (l *loop) run() {
	defer close(l.done)
	ready := make([]poll.Ready, 256)
	for {
		n, err := l.poller.Wait(ready, l.patience())
		l.asleep.Store(false)
		l.mu.Lock()
		if err != nil {
			l.hub.log.Error("waiting for sockets failed", zap.Error(err))
		}
		began := l.hub.cfg.Now()
		l.now = began
		l.turns++
		// First of all: what begins in this turn must not be as old as the turn
		// before, which is long ago where the loop was held up.
		tick := l.hub.tickAt(l.now)
		due := tick != l.tick
		l.tick = tick
		for i := range ready[:n] {
			l.onReady(&ready[i])
		}
		l.takeMail()
		l.catchUp()
		if len(l.broadcasts) > 0 {
			l.flushTouched() // what is for few does not wait for a slice of many
		}
		l.runSlice()
		l.runPulls()
		l.ringAlarms()
		if due {
			l.sweep(tick)
			l.sweepHeads()
			l.sweepSkips()
			l.sweepAcks()
			l.sweepPollers()
			l.measure()
			if l.number == 0 {
				l.hub.ring.sweep(l.now)
			}
		}
		l.endTick()
		stop := l.stopping
		l.worked(began)
		l.mu.Unlock()
		if stop {
			return
		}
	}
}

// patience is how long the next Wait may last, in milliseconds: not at all
// while there is work, else until the next second's sweep.
func (l *loop) patience() int {
	l.asleep.Store(true)
	// Posting looks at asleep after it counted, and this at the count after
	// it set asleep: one of the two sees the other.
	if l.box.count.Load() > 0 || l.pulling.Load() || l.box.missing() {
		l.asleep.Store(false)
		return 0
	}
	now := l.hub.cfg.Now()
	return l.alarms.until(now, l.hub.untilTick(now))
}

// post hands the loop a message, from anywhere. It reports false when it is an
// event that there is no room for.
func (l *loop) post(m message) bool {
	if !l.box.post(m) {
		return false
	}
	if l.asleep.Load() {
		l.poller.Wake()
	}
	return true
}

// enter delivers events from the caller's goroutine, if the loop is free and
// has nothing to do that came before them.
func (l *loop) enter(batch []*delivery) bool {
	if l.box.count.Load() > 0 || !l.mu.TryLock() {
		return false
	}
	defer l.mu.Unlock()
	if l.box.count.Load() > 0 || l.box.missing() || l.stopping {
		return false
	}
	began := l.hub.cfg.Now()
	l.now = batch[0].received
	l.turns++
	for _, d := range batch {
		if l.had(d) {
			continue
		}
		if parked := l.deliver(d); parked {
			l.box.bytes.Add(d.cost())
		}
	}
	l.endTick()
	l.worked(began)
	if (len(l.broadcasts) > 0 || l.pulling.Load()) && l.asleep.Load() {
		l.poller.Wake()
	}
	return true
}

// takeMail does what others asked for, and delivers what was posted, up to
// turnSize events.
func (l *loop) takeMail() {
	if l.box.count.Load() == int64(len(l.broadcasts)) {
		return
	}
	l.takeCalls()
	if len(l.todo) == 0 {
		l.todo = l.box.takeEvents(l.spare)
		if l.spare = l.todo[:0]; cap(l.spare) > 16*turnSize {
			l.spare = nil // a flood's room is not kept
		}
	}
	n := min(len(l.todo), turnSize)
	for i, d := range l.todo[:n] {
		l.todo[i] = nil
		if d.received.After(l.now) {
			l.now = d.received // it came in this turn: nothing is done with it before
		}
		parked := false
		switch {
		case d.mark != nil:
			d.mark(l)
		case !l.had(d):
			parked = l.deliver(d)
		}
		if !parked {
			l.box.bytes.Add(-d.cost())
		}
	}
	l.todo = l.todo[n:]
	l.box.count.Add(int64(-n))
}

// had reports whether an event came from the ring already.
func (l *loop) had(d *delivery) bool {
	return d.event.Seq > 0 && d.epoch == l.epoch && d.event.Seq <= l.caught
}

func (l *loop) takeCalls() {
	l.calls = l.box.takeCalls(l.calls)
	for _, m := range l.calls {
		switch {
		case m.admit != nil:
			l.admit(m.admit)
		case m.refuse != nil:
			l.answer(m.refuse)
		default:
			m.do(l)
		}
	}
	l.box.count.Add(int64(-len(l.calls)))
	clear(l.calls)
}

// endTick writes each touched session once and brings the figures up to date.
func (l *loop) endTick() {
	l.flushTouched()
	l.shedSlowest()
	if l.delivered > 0 {
		l.stats.deliveries.Add(int64(l.delivered))
		l.delivered = 0
	}
	for _, received := range l.pending {
		l.observe(received)
	}
	l.pending = l.pending[:0]
}

func (l *loop) observe(received time.Time) {
	l.stats.latency.observe(l.hub.cfg.Now().Sub(received))
}

// A tag is what a poller reports: an index, its generation, and in the top two
// bits of the index what it is an index of.
const (
	tagKinds    = 3 << 30
	kindSession = 0 << 30
	kindHead    = 1 << 30
	kindListen  = 2 << 30
)

func tagSession(id, gen uint32) uint64 { return uint64(gen)<<32 | kindSession | uint64(id) }
func tagHead(i, gen uint32) uint64     { return uint64(gen)<<32 | kindHead | uint64(i) }

func (l *loop) onReady(r *poll.Ready) {
	low, gen := uint32(r.Tag), uint32(r.Tag>>32)
	i := low &^ tagKinds
	switch low & tagKinds {
	case kindSession:
		s := l.slots.at(i)
		if s.gen != gen || s.state == stateFree {
			return // reported before the slot changed hands
		}
		if r.Write {
			l.onWritable(i, s)
		}
		if r.Read && s.gen == gen && s.state != stateFree {
			l.onReadable(i, s)
		}
	case kindHead:
		if h := l.heads[i]; h.gen == gen {
			l.onHead(i, h, r.Read)
		}
	default:
		l.accept()
	}
}

// closeAll ends every session and half-open connection at once, without a
// word: the last step of Hub.Close.
func (l *loop) closeAll() {
	for id := uint32(1); id < l.slots.top; id++ {
		switch s := l.slots.at(id); s.state {
		case stateOpen:
			l.close(id, s, api.ReasonLost)
		case stateClosing, stateAnswered:
			l.drop(id, s)
		}
	}
	for i, h := range l.heads {
		if i > 0 && h.fd >= 0 {
			l.dropHead(uint32(i), h)
		}
	}
	l.touched = l.touched[:0]
}
