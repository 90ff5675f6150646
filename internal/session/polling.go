package session

import (
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/poll"
)

// polling is what a session has whose client polls: a request that is to be
// answered once, with what lies behind its place, or with what comes in time.
// It stands in the index like any other, gets events into its outbox, and at the
// end of the first tick that brought some the answer is made of them. Then the
// session is over, and its connection waits for the next request.
type polling struct {
	cors  api.CORS
	peer  netip.Addr
	close bool // the client wants no further answer on this connection
	wait  time.Duration

	due      bool   // to be answered as it is
	full     bool   // an event was left for the next answer, which has room for it
	hurried  bool   // it waits only until this gateway is where its client was
	complete bool   // nothing is missing, as far as is known
	from     string // its place before the first event
	last     uint64 // the newest stored event that it was given
	rest     []byte // what came behind the request
}

// pollOf is a session's request.
func (l *loop) pollOf(s *slot) *polling { return l.extras[s.extra].polling }

// longestWait is how long a client may have a poll wait.
const longestWait = 55 * time.Second

// parseWait reads the query's wait.
func parseWait(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > longestWait {
		return 0, errors.New("wait is not a time like 25s, or longer than 55s")
	}
	return d, nil
}

// beginPoll looks for what the request asks for, and parks it when there is
// nothing yet.
func (l *loop) beginPoll(id uint32, s *slot, a *admission) {
	if a.cursor == "" {
		l.parkPoll(id, s, l.beginNow(id, s))
		return
	}
	l.resume(id, s, a.cursor) // ends in pollResumed
}

// pollResumed goes on with a poll whose past is through, or when something may
// have been missed.
func (l *loop) pollResumed(id uint32, s *slot, r *api.Resumed) {
	p := l.pollOf(s)
	p.complete = p.complete && r.Complete
	if !r.Complete {
		p.due = true
	}
	l.parkPoll(id, s, r.Cursor)
}

// parkPoll has a poll answered at the end of this tick, or wait.
func (l *loop) parkPoll(id uint32, s *slot, from string) {
	p := l.pollOf(s)
	p.from = from
	t := l.trafficOf(id, s)
	p.due = p.due || p.wait == 0 || len(t.out) > 0
	if p.due {
		l.touch(id, t)
		return
	}
	l.settle(s)
	l.alarms.add(l.now.Add(p.wait), tagSession(id, s.gen))
}

// flushPoll answers a poll that has something to be answered with.
func (l *loop) flushPoll(id uint32, s *slot, t *traffic) {
	p := l.pollOf(s)
	if t.waits {
		l.takeBack(s, func(d *delivery) bool { return d.stale(l.now) }, DropExpired)
	}
	switch {
	case s.flags&flagBehind != 0 && !p.full && t.outBytes < l.hub.cfg.PollBytes:
		l.pullLater(tagSession(id, s.gen))
	case len(t.out) > 0 || p.due:
		l.answerPoll(id, s, t)
	default:
		l.settle(s)
	}
}

// aheadWait is how long a poll waits whose client was at a gateway that is ahead
// of this one: longer than it takes to know that there is no such place.
const aheadWait = (aheadTicks + 3) * time.Second

// awaitPlace has a poll wait until this gateway is where its client was, or it
// is known that there is no such place: an answer from before would be empty,
// time and again.
func (l *loop) awaitPlace(s *slot) {
	p := l.pollOf(s)
	p.hurried = p.wait < aheadWait
	p.wait = max(p.wait, aheadWait)
}

// leavesFor reports whether a stored event is left for the next answer, because
// this one has no room for it. One event always fits.
func (l *loop) leavesFor(s *slot, size int) bool {
	p := l.pollOf(s)
	if s.active != 0 && len(l.active[s.active].out) > 0 && l.active[s.active].outBytes+size > l.hub.cfg.PollBytes {
		p.full = true
	}
	return p.full
}

// timeUp ends a poll's time: what came is the answer.
func (l *loop) timeUp(id uint32, s *slot) {
	p := l.pollOf(s)
	p.due = true
	if s.active == 0 || len(l.active[s.active].out) == 0 {
		p.from = l.cursor(id, s)
	}
	l.touch(id, l.trafficOf(id, s))
}

// polled is the answer so far.
func (l *loop) polled(s *slot, t *traffic) *api.Polled {
	p := l.pollOf(s)
	answer := &api.Polled{Complete: p.complete, Cursor: p.from, More: p.full}
	for _, seg := range t.out {
		answer.Events = append(answer.Events, seg.frames)
	}
	switch {
	case s.flags&flagBehind != 0:
		r := l.extras[s.extra].replays[0]
		answer.Cursor, answer.Complete, answer.More = api.Position{Stream: l.stream, Seq: r.pos}.Cursor(), p.complete && r.complete, true
	case p.last > 0:
		answer.Cursor = api.Position{Stream: l.stream, Seq: p.last}.Cursor()
	}
	return answer
}

// answerPoll ends a session with its answer.
func (l *loop) answerPoll(id uint32, s *slot, t *traffic) {
	p := l.pollOf(s)
	p.close = p.close || !l.hub.mayKeep()
	body := api.AppendPolled(make([]byte, 0, t.outBytes+len(t.out)+128), l.polled(s, t))
	l.stats.sessions[s.transport()].Add(-1)
	l.stats.polls.Add(1)
	l.noteClosed(id, s, wasPolled, 0)
	l.pollEnded(s)
	l.retire(id, s)
	l.respond(id, s, api.AppendPollAnswer(nil, body, p.cors, p.close))
}

// endPoll answers a poll that ends otherwise, as the reason's close code would
// have a client act.
func (l *loop) endPoll(id uint32, s *slot, why api.Reason) {
	p := l.pollOf(s)
	p.close = true
	r := api.Refusal{Message: why.Text()}
	switch code := why.Code(); {
	case why == api.ReasonDrain:
		t := l.trafficOf(id, s)
		l.respond(id, s, api.AppendPollAnswer(nil, api.AppendPolled(nil, l.polled(s, t)), p.cors, true))
		return
	case code >= 4200:
		r.Kind, r.BadToken = api.RefusedToken, true
	case code >= 4100:
		r.Kind, r.RetryAfter = api.RefusedFull, l.hub.retryAfter()
	default:
		r.Kind = api.RefusedForbidden
	}
	l.respond(id, s, api.AppendRefusal(nil, r, p.cors))
}

// respond sends a session's last bytes; its place in the index is given up
// already.
func (l *loop) respond(id uint32, s *slot, response []byte) {
	s.state = stateClosing
	l.setDue(id, answerTicks)
	l.emptyOutbox(s)
	t := l.trafficOf(id, s)
	l.enqueue(id, t, segment{frames: response})
	l.flush(id, s)
}

// answerTicks is how long, in seconds, a client may take to read its answer.
const answerTicks = 30

// pollSent is called when the answer is out: the connection waits for the next
// request.
func (l *loop) pollSent(id uint32, s *slot) {
	p := l.pollOf(s)
	if p.close || !l.hub.mayKeep() {
		p.close = true
		if s.flags&flagTLS != 0 && !l.closeNotify(id, s) {
			return
		}
		poll.CloseWrite(s.fd)
		l.setDue(id, refuseTicks)
		l.settle(s)
		return
	}
	i, hd := l.takeHead(s.fd, &l.hub.idle)
	hd.peer, hd.proxied, hd.polled, hd.kept = p.peer, true, true, true
	hd.wire, hd.deadline = l.extras[s.extra].wire, l.tick+keepTicks
	hd.buf = append(hd.buf, p.rest...)
	if err := l.poller.Modify(s.fd, tagHead(i, hd.gen), true, false); err != nil {
		l.hub.log.Error("keeping a connection failed", zap.Error(err))
		l.leaveHead(i, hd)
		l.drop(id, s)
		return
	}
	l.free(id, s)
	if len(hd.buf) > 0 && l.wakeHead(i, hd) {
		l.onHeadBytes(i, hd)
	}
}

// keepTicks is how long, in seconds, a connection waits for its next request.
const keepTicks = 75

// mayKeep reports whether there is room for connections between two requests.
func (h *Hub) mayKeep() bool {
	return !h.draining.Load() && (h.cfg.Sessions == 0 || h.idle.Load()+h.open.Load() < int64(h.cfg.Sessions))
}

// takeRequest keeps what a client sends behind its request: the next one.
func (l *loop) takeRequest(id uint32, s *slot, data []byte) {
	p := l.pollOf(s)
	if len(p.rest)+len(data) > l.hub.maxHead() {
		l.lost(id, s)
		return
	}
	p.rest = append(p.rest, data...)
}

// newPolling is what admission makes of a request.
func newPolling(a *admission) *polling {
	return &polling{
		cors: a.cors, peer: a.peer, close: a.request.close, wait: a.wait,
		complete: true, rest: a.rest,
	}
}
