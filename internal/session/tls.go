package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/poll"
)

// tlsPort is what a hub has when its listener speaks TLS.
//
// A handshake has a goroutine of its own, and an ordinary connection that may
// wait, because crypto/tls can go on after an interrupted read only when the
// handshake is done. The request and the session are the loop's again.
type tlsPort struct {
	config *tls.Config
	// cpu holds a slot for each handshake that is computing. One that waits
	// for its client holds none: thousands of silent clients delay nobody.
	cpu     chan struct{}
	life    context.Context // ends with the hub
	end     context.CancelFunc
	shaking sync.WaitGroup
	failed  atomic.Int64
}

// newTLSPort returns nil for a hub without TLS.
func newTLSPort(config *tls.Config, loops int) *tlsPort {
	if config == nil {
		return nil
	}
	p := &tlsPort{config: config.Clone(), cpu: make(chan struct{}, verifiers(loops))}
	// One record a write, not one a packet: each would be a system call.
	p.config.DynamicRecordSizingDisabled = true
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

// stopTLS ends the handshakes under way and waits for their goroutines. What
// they have posted to the loops by then is still to be taken.
func (h *Hub) stopTLS() {
	if h.tls == nil {
		return
	}
	h.tls.end()
	h.everywhere(func(*loop) {}) // whoever starts one from now on sees the end
	h.tls.shaking.Wait()
}

// startTLS hands a new connection to a goroutine that makes the TLS handshake
// and gives it back to the loop. read is what was read of it already, a copy
// of the caller's. It is half-open all the while, and the time that a request
// head may take has begun. The goroutine closes fd where it does not give it
// back; no poller may have it.
func (l *loop) startTLS(fd poll.FD, peer netip.Addr, read []byte) {
	h := l.hub
	if h.tls.life.Err() != nil {
		poll.Close(fd)
		return
	}
	h.halfOpen.Add(1)
	w := &wire{fd: fd, early: read, cpu: h.tls.cpu, until: h.cfg.Now().Add(headTicks * time.Second)}
	deadline := l.tick + headTicks
	h.tls.shaking.Go(func() {
		if err := w.shake(h.tls.life, h.tls.config); err != nil {
			h.noHandshake(l, w, err)
			return
		}
		l.post(message{do: func(l *loop) { l.takeTLS(w, peer, deadline) }})
	})
}

// tlsBehindProxy begins TLS on a connection whose proxy has said whose it is.
func (l *loop) tlsBehindProxy(i uint32, hd *head) {
	peer, read := hd.peer, bytes.Clone(hd.buf)
	fd, err := l.handOver(i, hd)
	if err != nil {
		poll.Close(fd)
		return
	}
	l.startTLS(fd, peer, read)
}

// takeTLS goes on with a connection whose TLS handshake is done: its request
// may lie in what came with the client's last record.
func (l *loop) takeTLS(w *wire, peer netip.Addr, deadline uint16) {
	i, hd := l.takeHead(w.fd, &l.hub.halfOpen)
	l.hub.halfOpen.Add(-1) // what startTLS had counted
	hd.wire, hd.peer, hd.proxied, hd.deadline = w, peer, true, deadline
	if l.readHead(i, hd) {
		l.pollHead(i, hd)
	}
}

// noHandshake ends a connection that brought no TLS. Who came with HTTP is
// told so, in the words that it speaks.
func (h *Hub) noHandshake(l *loop, w *wire, err error) {
	h.halfOpen.Add(-1)
	if err == io.EOF && !w.heard {
		_ = w.Close() // a probe of the port: nothing was tried
		return
	}
	var header tls.RecordHeaderError
	if errors.As(err, &header) && header.Conn != nil && looksLikeHTTP(header.RecordHeader) && w.adopt() == nil {
		h.handshakes[api.RefusedMalformed].Add(1)
		refusal := refuseMalformed("this port speaks TLS: use https or wss")
		l.post(message{refuse: &answer{fd: w.fd, response: api.AppendRefusal(nil, refusal, api.CORS{})}})
		return
	}
	_ = w.Close()
	h.tls.failed.Add(1)
	h.log.Debug("TLS handshake failed", zap.Error(err))
}

// looksLikeHTTP reports whether what should have been the header of a record
// begins with a method.
func looksLikeHTTP(b [5]byte) bool {
	for _, c := range b[:3] {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}
