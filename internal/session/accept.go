package session

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

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
	addr     uint32
	scanned  int
	buf      []byte
}

const (
	headTicks   = 5 // seconds for a whole request head
	refuseTicks = 2 // seconds for a refused client to end the connection
	// acceptBatch is how many connections a loop takes before it turns to
	// its sessions again.
	acceptBatch = 64
)

// retryAfter is when a client that was refused for now should come back:
// spread, so that they do not come together again.
func retryAfter() time.Duration { return time.Duration(1+rand.IntN(5)) * time.Second }

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
		case poll.ErrDescriptors:
			r := api.Refusal{Kind: api.RefusedDescriptors, Message: "this gateway has no room left", RetryAfter: retryAfter()}
			switch l.hub.listener.Shed(api.AppendRefusal(nil, r, "")) {
			case nil:
				l.hub.handshakes[api.RefusedDescriptors].Add(1)
				l.shed++
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

func (l *loop) welcomeHead(fd poll.FD, addr netip.Addr) {
	h := l.hub
	surplus := h.halfOpen.Load() >= int64(h.cfg.HalfOpen)
	if surplus && h.surplus.Load() >= int64(h.cfg.HalfOpen) {
		l.turnAway(fd)
		return
	}
	if surplus {
		i, hd := l.takeHead(fd, &h.surplus)
		l.refuseHead(i, hd, tooManyHeads(), "")
		return
	}
	i, hd := l.takeHead(fd, &h.halfOpen)
	b := addr.As16()
	hd.addr = uint32(maphash.Bytes(h.seed, b[:]))
	// The request is often here already: one report less.
	if l.readHead(i, hd) {
		l.pollHead(i, hd)
	}
}

func tooManyHeads() api.Refusal {
	return api.Refusal{Kind: api.RefusedFull, Message: "too many requests are being read", RetryAfter: retryAfter()}
}

// turnAway answers a connection and ends it on the spot, when even those that
// are only waited for to read their refusal have become too many. Whoever has
// not sent its request yet may see a reset instead of the answer.
func (l *loop) turnAway(fd poll.FD) {
	l.hub.handshakes[api.RefusedFull].Add(1)
	_, _ = poll.Write(fd, api.AppendRefusal(nil, tooManyHeads(), ""))
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
	hd.fd = -1
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
	n, err := poll.Read(hd.fd, l.input[:min(l.hub.maxHead()+1-len(hd.buf), len(l.input))])
	if err == poll.ErrAgain {
		return true
	}
	if err != nil {
		l.dropHead(i, hd)
		return false
	}
	hd.buf = append(hd.buf, l.input[:n]...)
	size, bad := scanHead(hd.buf, hd.scanned)
	hd.scanned = len(hd.buf)
	switch {
	case bad != nil:
		l.refuseHead(i, hd, refuseMalformed(bad.Error()), "")
		return false
	case size > l.hub.maxHead() || size == 0 && len(hd.buf) > l.hub.maxHead():
		l.refuseHead(i, hd, headTooLarge, "")
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
func (l *loop) refuseHead(i uint32, hd *head, r api.Refusal, cors string) {
	l.hub.handshakes[r.Kind].Add(1)
	l.answerHead(i, hd, api.AppendRefusal(nil, r, cors))
}

func (l *loop) answerHead(i uint32, hd *head, response []byte) {
	if n, _ := poll.Write(hd.fd, response); n < len(response) {
		// A fresh socket has room for more: the client is gone.
		l.dropHead(i, hd)
		return
	}
	poll.CloseWrite(hd.fd)
	hd.refused = true
	hd.deadline = l.tick + refuseTicks
	l.pollHead(i, hd)
}

// answer is a response to a connection that had left its loop already.
type answer struct {
	fd       poll.FD
	response []byte
}

// answer takes a connection back to tell it no.
func (l *loop) answer(a *answer) {
	i, hd := l.takeHead(a.fd, &l.hub.halfOpen)
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
		if i == 0 || hd.fd < 0 || int16(hd.deadline-l.tick) > 0 {
			continue
		}
		if hd.refused {
			l.dropHead(uint32(i), hd)
			continue
		}
		l.refuseHead(uint32(i), hd, api.Refusal{Kind: api.RefusedSlowHead, Message: "the request head did not come in time"}, "")
	}
}
