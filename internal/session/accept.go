package session

import (
	"bytes"
	"net/netip"
	"sync/atomic"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/poll"
)

// head is a connection that is no session yet: its request is being read, or
// it was refused and its end is awaited.
type head struct {
	fd       poll.FD // -1 when the record is free
	gen      uint32
	deadline uint16        // tick
	refused  bool          // the answer is out; what still comes is thrown away
	polled   bool          // registered with the loop's poller
	counted  *atomic.Int64 // Hub.halfOpen, or Hub.surplus
	peer     netip.Addr    // who connected, or whom a trusted proxy names
	kept     bool          // between two requests: nothing of the next has come
	proxied  bool          // the PROXY header has been read, or there is none
	scanned  int
	buf      []byte
	wire     *wire // nil without TLS
}

const (
	headTicks   = 5 // seconds for a whole request head
	refuseTicks = 2 // seconds for a refused client to end the connection
	// acceptBatch is how many connections a loop takes before it turns to
	// its sessions again.
	acceptBatch = 32
)

func (l *loop) listen() error {
	if l.listening || l.hub.listener == nil {
		return nil
	}
	err := l.poller.AddListener(l.hub.listener, kindListen)
	l.listening = err == nil
	return err
}

func (l *loop) unlisten() {
	if l.listening {
		l.listening = false
		if err := l.poller.RemoveListener(l.hub.listener); err != nil {
			l.hub.log.Error("removing the listener failed", zap.Error(err))
		}
	}
}

// accept takes waiting connections. The loop that accepts reads the request;
// the session then lives at its user's home.
func (l *loop) accept() {
	if !l.listening {
		return
	}
	for range acceptBatch {
		fd, addr, err := l.hub.listener.Accept()
		switch err {
		case nil:
			l.stats.accepted.Add(1)
			l.welcomeHead(fd, addr)
		case poll.ErrAgain:
			return
		case poll.ErrTurnedAway:
			l.noteShed()
		case poll.ErrDescriptors:
			r := api.Refusal{Kind: api.RefusedDescriptors, Message: "this gateway has no room left", RetryAfter: l.hub.retryAfter()}
			answer := api.AppendRefusal(nil, r, api.CORS{})
			if l.hub.tls != nil {
				answer = nil // noise to who expects TLS
			}
			switch l.hub.listener.Shed(answer) {
			case nil:
				l.noteShed()
			case poll.ErrDescriptors:
				// Not even the reserve helps: the next sweep tries again.
				l.unlisten()
				l.paused = true
				return
			default:
				return
			}
		default:
			l.hub.log.Warn("accepting a connection failed", zap.Error(err))
			return
		}
	}
}

// noteShed counts a connection that was turned away for want of a descriptor.
func (l *loop) noteShed() {
	l.hub.handshakes[api.RefusedDescriptors].Add(1)
	l.shed++
}

func (l *loop) welcomeHead(fd poll.FD, addr netip.Addr) {
	h := l.hub
	surplus := h.halfOpen.Load() >= int64(h.cfg.HalfOpen)
	if surplus && h.tls != nil {
		// No handshake is spent on it, and plain text would be noise.
		h.handshakes[api.RefusedFull].Add(1)
		poll.Close(fd)
		return
	}
	if surplus && h.surplus.Load() >= int64(h.cfg.HalfOpen) {
		l.turnAway(fd)
		return
	}
	if surplus {
		i, hd := l.takeHead(fd, &h.surplus)
		l.refuseHead(i, hd, l.hub.tooManyHeads(), api.CORS{})
		return
	}
	trusted := h.trusts(addr)
	if h.tls != nil && !trusted {
		l.startTLS(fd, addr, nil)
		return
	}
	i, hd := l.takeHead(fd, &h.halfOpen)
	hd.peer, hd.proxied = addr, !trusted
	// The request is often here already: one report less.
	if l.readHead(i, hd) {
		l.pollHead(i, hd)
	}
}

func (h *Hub) tooManyHeads() api.Refusal {
	return api.Refusal{Kind: api.RefusedFull, Message: "too many requests are being read", RetryAfter: h.retryAfter()}
}

// turnAway answers a connection and ends it on the spot, when even those that
// are only waited for to read their refusal have become too many. Whoever has
// not sent its request yet may see a reset instead of the answer.
func (l *loop) turnAway(fd poll.FD) {
	l.hub.handshakes[api.RefusedFull].Add(1)
	_, _ = poll.Write(fd, api.AppendRefusal(nil, l.hub.tooManyHeads(), api.CORS{}))
	poll.CloseWrite(fd)
	_, _ = poll.Read(fd, l.input) // what is unread would reset the connection
	poll.Close(fd)
}

// pollHead has the poller report when the connection has more to read.
func (l *loop) pollHead(i uint32, hd *head) {
	if hd.polled {
		return
	}
	if err := l.poller.Add(hd.fd, tagHead(i, hd.gen)); err != nil {
		l.hub.log.Error("registering a connection failed", zap.Error(err))
		l.dropHead(i, hd)
		return
	}
	hd.polled = true
}

func (l *loop) takeHead(fd poll.FD, counted *atomic.Int64) (uint32, *head) {
	var i uint32
	if n := len(l.freeHeads); n > 0 {
		i = l.freeHeads[n-1]
		l.freeHeads = l.freeHeads[:n-1]
	} else {
		l.heads = append(l.heads, &head{fd: -1})
		i = uint32(len(l.heads) - 1)
	}
	hd := l.heads[i]
	*hd = head{fd: fd, gen: hd.gen + 1, deadline: l.tick + headTicks, buf: hd.buf[:0], counted: counted}
	counted.Add(1)
	return i, hd
}

// handOver ends the loop's part in a connection that goes on elsewhere.
func (l *loop) handOver(i uint32, hd *head) (poll.FD, error) {
	fd := hd.fd
	var err error
	if hd.polled {
		err = l.poller.Remove(fd)
	}
	l.leaveHead(i, hd)
	return fd, err
}

// leaveHead frees the record, not the connection.
func (l *loop) leaveHead(i uint32, hd *head) {
	hd.counted.Add(-1)
	hd.fd, hd.wire = -1, nil
	hd.gen++
	if cap(hd.buf) > keptBuffer {
		hd.buf = nil
	}
	l.freeHeads = append(l.freeHeads, i)
}

func (l *loop) dropHead(i uint32, hd *head) {
	poll.Close(hd.fd)
	l.leaveHead(i, hd)
}

// onHead reads on when more of a request has come.
func (l *loop) onHead(i uint32, hd *head, readable bool) {
	if !readable {
		return
	}
	if hd.refused {
		if _, err := poll.Read(hd.fd, l.input); err != nil && err != poll.ErrAgain {
			l.dropHead(i, hd)
		}
		return
	}
	l.readHead(i, hd)
}

// readHead reads once and acts on a complete head. It reports whether the
// connection still waits here for more, not registered yet or still.
func (l *loop) readHead(i uint32, hd *head) bool {
	// One byte more than a head may have is enough to know; what comes behind
	// a good one waits in the socket.
	n, err := hd.readFrom(l.input[:min(l.hub.maxHead()+1-len(hd.buf), len(l.input))])
	if err == poll.ErrAgain {
		return true
	}
	if err != nil {
		l.dropHead(i, hd)
		return false
	}
	hd.buf = append(hd.buf, l.input[:n]...)
	if !l.wakeHead(i, hd) {
		return false
	}
	return l.onHeadBytes(i, hd)
}

// wakeHead makes a kept connection one whose request is being read. It reports
// false when there are too many of those.
func (l *loop) wakeHead(i uint32, hd *head) bool {
	if !hd.kept {
		return true
	}
	h := l.hub
	hd.kept, hd.deadline = false, l.tick+headTicks
	hd.counted.Add(-1)
	surplus := h.halfOpen.Load() >= int64(h.cfg.HalfOpen)
	if hd.counted = &h.halfOpen; surplus {
		hd.counted = &h.surplus
	}
	hd.counted.Add(1)
	if surplus {
		l.refuseUnread(i, hd, l.hub.tooManyHeads())
	}
	return !surplus
}

// onHeadBytes acts on what has come of a request, as readHead does.
func (l *loop) onHeadBytes(i uint32, hd *head) bool {
	if !hd.proxied {
		switch err := hd.readProxyHeader(); {
		case err != nil:
			l.refuseHead(i, hd, refuseMalformed(err.Error()), api.CORS{})
			return false
		case !hd.proxied:
			return true
		case l.hub.tls != nil:
			l.tlsBehindProxy(i, hd)
			return false
		}
	}
	if hd.scanned <= 1 && bytes.HasPrefix(hd.buf, []byte("\r\n")) {
		// What some clients send behind the body before (RFC 9112 §2.2).
		hd.buf, hd.scanned = hd.buf[:copy(hd.buf, hd.buf[2:])], 0
	}
	size, bad := scanHead(hd.buf, hd.scanned)
	hd.scanned = len(hd.buf)
	switch {
	case bad != nil:
		l.refuseUnread(i, hd, refuseMalformed(bad.Error()))
		return false
	case size > l.hub.maxHead() || size == 0 && len(hd.buf) > l.hub.maxHead():
		l.refuseUnread(i, hd, headTooLarge)
		return false
	case size == 0:
		return true
	}
	l.onRequest(i, hd, size)
	return false
}

var headTooLarge = api.Refusal{Kind: api.RefusedHeadSize, Message: "the request head is larger than 8 KiB beyond the token, or has more than 64 lines"}

func (h *Hub) maxHead() int { return headBytes + h.cfg.TokenBytes }

// refuseHead answers and waits, shortly, for the client to end: a close while
// it still sends would reset the connection and take the answer with it.
func (l *loop) refuseHead(i uint32, hd *head, r api.Refusal, cors api.CORS) {
	l.hub.handshakes[r.Kind].Add(1)
	l.answerHead(i, hd, api.AppendRefusal(nil, r, cors))
}

// refuseUnread is refuseHead for a request that was not read.
func (l *loop) refuseUnread(i uint32, hd *head, r api.Refusal) {
	l.refuseHead(i, hd, r, l.hub.cfg.corsOf(hd.buf))
}

func (l *loop) answerHead(i uint32, hd *head, response []byte) {
	if !hd.answerAll(response) {
		l.dropHead(i, hd) // the client is gone
		return
	}
	hd.refused = true
	hd.deadline = l.tick + refuseTicks
	l.pollHead(i, hd)
}

// answer is a response to a connection that had left its loop already.
type answer struct {
	fd       poll.FD
	wire     *wire
	response []byte
}

// answer takes a connection back to tell it no.
func (l *loop) answer(a *answer) {
	i, hd := l.takeHead(a.fd, &l.hub.halfOpen)
	hd.wire = a.wire
	l.answerHead(i, hd, a.response)
}

// sweepHeads ends what took too long, and accepts again where descriptors had
// run out.
func (l *loop) sweepHeads() {
	if l.shed > 0 {
		l.hub.log.Warn("connections were turned away: no descriptor is left", zap.Int("connections", l.shed))
		l.shed = 0
	}
	if l.paused {
		l.paused = false
		if err := l.listen(); err != nil {
			l.hub.log.Error("listening again failed", zap.Error(err))
		}
	}
	for i, hd := range l.heads {
		if i == 0 || hd.fd < 0 {
			continue
		}
		if ends := int16(hd.deadline-l.tick) <= 0 || hd.kept && l.refusing; !ends {
			continue
		}
		if hd.refused || hd.kept {
			l.dropHead(uint32(i), hd)
			continue
		}
		// The loop may be late itself: what lies there by now is looked at first.
		if l.readHead(uint32(i), hd) {
			l.refuseUnread(uint32(i), hd, api.Refusal{Kind: api.RefusedSlowHead, Message: "the request head did not come in time"})
		}
	}
}
