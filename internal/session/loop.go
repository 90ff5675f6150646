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
	freeExtras []uint32
	active     []*traffic
	idleActive []uint32

	touched    []uint32 // sessions to be written at the end of the tick
	delivered  int      // deliveries of this tick
	pending    []time.Time
	broadcasts []*broadcast
	turn       int
	todo       []*delivery // taken from the mailbox
	spare      []*delivery
	calls      []message
	matched    []uint32
	takers     []uint32

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
		active:  make([]*traffic, 1),
		heads:   make([]*head, 1),
		input:   make([]byte, inputSize),
		scratch: make([]byte, scratchSize),
		done:    make(chan struct{}),
	}
	l.box.limit = mailboxBytes
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
		for i := range ready[:n] {
			l.onReady(&ready[i])
		}
		l.takeMail()
		l.runSlice()
		if tick := l.hub.tickAt(l.now); tick != l.tick {
			l.tick = tick
			l.sweep(tick)
			l.sweepHeads()
		}
		l.endTick()
		stop := l.stopping
		l.stats.busy.Add(int64(l.hub.cfg.Now().Sub(began)))
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
	if l.box.count.Load() > 0 {
		l.asleep.Store(false)
		return 0
	}
	return l.hub.untilTick(l.hub.cfg.Now())
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
	if l.box.count.Load() > 0 || l.stopping {
		return false
	}
	l.now = batch[0].received
	for _, d := range batch {
		if parked := l.deliver(d); parked {
			l.box.bytes.Add(d.cost())
		}
	}
	l.endTick()
	if len(l.broadcasts) > 0 && l.asleep.Load() {
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
		if parked := l.deliver(d); !parked {
			l.box.bytes.Add(-d.cost())
		}
	}
	l.todo = l.todo[n:]
	l.box.count.Add(int64(-n))
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
