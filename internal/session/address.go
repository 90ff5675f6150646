package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/time/rate"
)

// trusts reports whether an address is that of a proxy that may speak for
// clients.
func (h *Hub) trusts(addr netip.Addr) bool {
	for _, p := range h.cfg.Trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

const (
	// maxProxyV1 is the longest text header, its line break included.
	maxProxyV1 = 107
	// proxyV2 is the fixed part of a binary header; its last two bytes are the
	// length of the rest, of which no proxy needs much.
	proxyV2    = 16
	maxProxyV2 = 2 << 10
)

const (
	errProxyLong = malformed("the PROXY header is too long")
	errProxy     = malformed("the PROXY header is not valid")
)

// readProxyHeader takes the PROXY header, of either version, off the front of
// what a trusted proxy has sent, as soon as it is complete: proxied says so. A
// connection of the proxy's own (LOCAL, UNKNOWN) keeps the proxy's address; one
// without a header is an ordinary one.
func (hd *head) readProxyHeader() error {
	size, more, err := proxyHeaderSize(hd.buf)
	if more || err != nil {
		return err
	}
	hd.proxied = true
	if size == 0 {
		return nil
	}
	header, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(hd.buf[:size]), size))
	if err != nil {
		return errProxy
	}
	if source, ok := header.SourceAddr.(*net.TCPAddr); ok && header.Command == proxyproto.PROXY {
		if addr, ok := netip.AddrFromSlice(source.IP); ok {
			hd.peer = addr.Unmap()
		}
	}
	hd.buf = append(hd.buf[:0], hd.buf[size:]...)
	return nil
}

// proxyHeaderSize is the length of a PROXY header at the front of b, 0 when
// there is none.
func proxyHeaderSize(b []byte) (size int, more bool, err error) {
	if v1 := append(proxyproto.SIGV1[:5:5], ' '); begins(b, v1) {
		end := bytes.IndexByte(b, '\n')
		switch {
		case end >= maxProxyV1, end < 0 && len(b) >= maxProxyV1:
			return 0, false, errProxyLong
		case end < 0:
			return 0, true, nil
		}
		return end + 1, false, nil
	}
	if !begins(b, proxyproto.SIGV2) {
		return 0, false, nil
	}
	if len(b) < proxyV2 {
		return 0, true, nil
	}
	size = proxyV2 + int(binary.BigEndian.Uint16(b[proxyV2-2:]))
	if size > maxProxyV2 {
		return 0, false, errProxyLong
	}
	return size, len(b) < size, nil
}

// begins reports whether b begins with the signature, or may yet.
func begins(b, signature []byte) bool {
	n := min(len(b), len(signature))
	return bytes.Equal(b[:n], signature[:n])
}

// clientAddr is who made a request: the peer, unless that is a trusted proxy;
// then the last address in X-Forwarded-For that no trusted proxy has. Whatever
// stands before it anybody may have written.
func (h *Hub) clientAddr(peer netip.Addr, forwarded string) netip.Addr {
	for forwarded != "" && h.trusts(peer) {
		var last string
		if at := strings.LastIndexByte(forwarded, ','); at >= 0 {
			forwarded, last = forwarded[:at], forwarded[at+1:]
		} else {
			forwarded, last = "", forwarded
		}
		addr, ok := parseAddr(strings.Trim(last, " \t"))
		if !ok {
			break
		}
		peer = addr
	}
	return peer
}

// parseAddr reads an address, with a port or without.
func parseAddr(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = withPort.Addr()
	}
	return addr.WithZone("").Unmap(), true
}

// addrKey is what limits know a client's address by: a seeded hash, of IPv6
// addresses of the /64 that one subscriber has. Two that share a hash share a
// limit, and nothing else.
func (h *Hub) addrKey(addr netip.Addr) uint32 {
	b := addr.As16()
	if addr.Is6() {
		clear(b[8:])
	}
	return uint32(maphash.Bytes(h.seed, b[:]))
}

// quota counts what somebody holds, by key, up to a limit. The zero limit is
// none, and costs nothing.
type quota struct {
	limit int

	mu   sync.Mutex
	held map[uint32]int32
}

// take notes one more, unless there are limit already.
func (q *quota) take(key uint32) bool {
	if q.limit == 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held == nil {
		q.held = map[uint32]int32{}
	}
	if int(q.held[key]) >= q.limit {
		return false
	}
	q.held[key]++
	return true
}

// give takes one back.
func (q *quota) give(key uint32) {
	if q.limit == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held[key]--; q.held[key] <= 0 {
		delete(q.held, key)
	}
}

// pace counts what somebody does in the current second, by key, up to a limit.
// Unlike a bucket each it forgets everybody every second: its memory is bounded
// by what one second can bring.
type pace struct {
	limit int

	mu     sync.Mutex
	second int64
	done   map[uint64]int32
}

// allow notes one more in the second of now, unless there are limit already.
func (p *pace) allow(key uint64, now time.Time) bool {
	if p.limit == 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The loops' clocks are a turn apart: one that is late does not bring the
	// second back that is over, a clock that was set back does.
	if second := now.Unix(); second > p.second || second < p.second-1 || p.done == nil {
		p.second, p.done = second, map[uint64]int32{}
	}
	if int(p.done[key]) >= p.limit {
		return false
	}
	p.done[key]++
	return true
}

// tempo is a limit on what all loops do together. Their clocks are a turn
// apart; a rate.Limiter whose clock goes back and forth would give that time
// again with each turn.
type tempo struct {
	limiter *rate.Limiter // nil: no limit

	mu     sync.Mutex
	latest time.Time
}

func newTempo(perSecond int) *tempo {
	t := new(tempo)
	if perSecond > 0 {
		t.limiter = rate.NewLimiter(rate.Limit(perSecond), perSecond)
	}
	return t
}

func (t *tempo) allow(now time.Time) bool {
	if t.limiter == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.After(t.latest) {
		t.latest = now
	}
	return t.limiter.AllowN(t.latest, 1)
}
