package session

import (
	"bytes"
	"crypto/sha1" // RFC 6455 demands it; no secret depends on it
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/auth"
	"pushgate/internal/poll"
)

const (
	// subprotocol is what this gateway speaks.
	subprotocol  = "pushgate.v1"
	bearerPrefix = "bearer."
)

// handshake is a request that is good in form, on its way through the
// verifiers. Whoever holds it owns fd.
type handshake struct {
	fd        poll.FD
	wire      *wire // nil without TLS
	from      *loop // which accepted it
	addr      uint32
	peer      netip.Addr // who connected
	rest      []byte     // bytes that came behind it
	request   request
	transport transport
	wait      time.Duration // of a poll
	query     url.Values
	token     string
	cors      api.CORS // the page that may read a refusal
	cursor    string   // that the client brought
	device    string   // as the client calls it
	acked     bool     // the cursor is what this device last acknowledged
	beat      uint8    // the heartbeat that it asks for, as in slot
	deflate   string   // the answer to its offer of compression; empty: none
	own       []string // subjects that the request names beyond the token's
	user      string   // once the token was verified
	forbidden string   // a subject that the request names and the token does not grant
}

// admission is a session that its home loop is to take in.
type admission struct {
	*handshake
	identity auth.Identity
	response []byte // the 101
}

// subjects are all that the session begins with.
func (a *admission) subjects() []string { return slices.Concat(a.identity.Subjects, a.own) }

// onRequest decides what a complete head asks for.
func (l *loop) onRequest(i uint32, hd *head, size int) {
	r, lines, err := parseHead(hd.buf[:size])
	if err != nil {
		l.refuseUnread(i, hd, refuseMalformed(err.Error()))
		return
	}
	gateway := r.path == "/v1/ws" || r.path == "/v1/events"
	if l.hub.cfg.pageAt(r.path) && !r.tooLarge(&l.hub.cfg, size, lines) {
		l.handToPage(i, hd)
		return
	}
	addr := l.hub.addrKey(l.hub.clientAddr(hd.peer, r.forwarded))
	hs := &handshake{from: l, wire: hd.wire, addr: addr, peer: hd.peer, request: r}
	refused := hs.judge(&l.hub.cfg, size, lines, gateway)
	if refused.Kind == api.RefusedNot && r.method == http.MethodOptions {
		l.answerHead(i, hd, api.AppendPreflight(nil, hs.cors))
		return
	}
	if refused.Kind == api.RefusedNot && (l.refusing || l.hub.draining.Load()) {
		refused = l.hub.goingAway()
	}
	if refused.Kind == api.RefusedNot && l.hub.strained.Load() {
		refused = api.Refusal{Kind: api.RefusedFull, Message: "this gateway is short of memory", RetryAfter: l.hub.retryAfter()}
	}
	if refused.Kind == api.RefusedNot {
		refused = l.mayTry(hs)
	}
	if refused.Kind != api.RefusedNot {
		l.hub.handshakes[refused.Kind].Add(1)
		l.answerHead(i, hd, hs.withoutBody(api.AppendRefusal(nil, refused, hs.cors)))
		return
	}
	hs.rest = bytes.Clone(hd.buf[size:])
	if hs.fd, err = l.handOver(i, hd); err != nil {
		poll.Close(hs.fd)
		return
	}
	l.hub.halfOpen.Add(1)
	if l.hub.quick != nil {
		if id, ok := l.hub.quick.VerifyNow(hs.token); ok {
			l.hub.verified(hs, id, nil, l)
			return
		}
	}
	if !l.hub.check(&check{token: hs.token, done: func(id auth.Identity, err error) { l.hub.verified(hs, id, err, nil) }}) {
		l.hub.refuse(hs, l.hub.refusalOf(errBusy))
	}
}

// mayTry applies the limits on handshakes that need no token: the address's
// first, so that one address cannot use up what is for all.
func (l *loop) mayTry(hs *handshake) api.Refusal {
	switch {
	case !l.hub.addrPace.allow(uint64(hs.addr), l.now):
		return l.hub.tooMany("too many handshakes from this address at the moment")
	case !l.hub.overall.allow(l.now):
		return l.hub.tooMany("too many handshakes at the moment")
	}
	return api.Refusal{}
}

func (h *Hub) goingAway() api.Refusal {
	return api.Refusal{Kind: api.RefusedDraining, Message: "this gateway is going away", RetryAfter: h.retryAfter()}
}

// withoutBody cuts an answer to what HEAD gets (RFC 9110 §9.3.2).
func (hs *handshake) withoutBody(answer []byte) []byte {
	if hs.request.method != http.MethodHead {
		return answer
	}
	return answer[:bytes.Index(answer, []byte("\r\n\r\n"))+4]
}

// judge checks everything about the request but its token's truth.
func (hs *handshake) judge(cfg *Config, size, lines int, gateway bool) api.Refusal {
	r := &hs.request
	allowed := !r.hasOrigin || cfg.originAllowed(r.origin, r.host)
	if allowed {
		hs.cors = api.CORS{Origin: r.origin, Credentials: cfg.takesCookie()}
	}
	switch {
	case r.tooLarge(cfg, size, lines):
		return headTooLarge
	case !gateway:
		return api.Refusal{Kind: api.RefusedPath, Message: "there is nothing at this path"}
	case !allowed:
		return api.Refusal{Kind: api.RefusedOrigin, Message: "pages of this origin may not connect"}
	}
	switch r.method {
	case http.MethodGet:
	case http.MethodOptions:
		return api.Refusal{}
	default:
		return api.Refusal{Kind: api.RefusedMethod, Message: "only GET is served here"}
	}
	if r.chunked || r.hasBody {
		return refuseMalformed("a GET request has no body here")
	}
	query, err := url.ParseQuery(r.query)
	if err != nil {
		return refuseMalformed("the query is not valid")
	}
	hs.query = query
	if r.path == "/v1/events" {
		if refused := hs.judgeEvents(); refused.Kind != api.RefusedNot {
			return refused
		}
	} else {
		if refused := r.judgeUpgrade(); refused.Kind != api.RefusedNot {
			return refused
		}
	}
	refused := hs.findToken(cfg)
	if refused.Kind != api.RefusedNot {
		return refused
	}
	hs.cursor, hs.device = query.Get("cursor"), query.Get("device")
	if hs.transport == transportSSE && r.lastEventID != "" {
		hs.cursor = r.lastEventID
	}
	if !validDevice(hs.device) {
		return refuseMalformed("device is longer than 64 bytes, or not printable")
	}
	if asked := query.Get("heartbeat"); asked != "" {
		d, err := time.ParseDuration(asked)
		if err != nil || d <= 0 {
			return refuseMalformed("heartbeat is not a time like 240s")
		}
		hs.beat = cfg.beatFor(d)
	}
	return api.Refusal{}
}

// judgeEvents tells which of the two other transports a request means.
func (hs *handshake) judgeEvents() api.Refusal {
	if acceptsEventStream(hs.request.accept) {
		hs.transport = transportSSE
		return api.Refusal{}
	}
	hs.transport = transportPoll
	var err error
	if hs.wait, err = parseWait(hs.query.Get("wait")); err != nil {
		return refuseMalformed(err.Error())
	}
	return api.Refusal{}
}

// judgeUpgrade checks what RFC 6455 §4.2.1 asks of a client's handshake.
func (r *request) judgeUpgrade() api.Refusal {
	switch {
	case !r.upgrade:
		return api.Refusal{Kind: api.RefusedUpgrade, Message: "this path speaks WebSocket: the request needs Upgrade: websocket and Connection: Upgrade"}
	case r.version != "13":
		return api.Refusal{Kind: api.RefusedUpgrade, Message: "the request needs Sec-WebSocket-Version: 13"}
	case r.keys != 1:
		return refuseMalformed("the request needs exactly one Sec-WebSocket-Key")
	}
	if key, err := base64.StdEncoding.DecodeString(r.key); err != nil || len(key) != 16 {
		return refuseMalformed("Sec-WebSocket-Key is not 16 bytes in base64")
	}
	return api.Refusal{}
}

// pageAt reports whether a path is the page's.
func (c *Config) pageAt(path string) bool {
	for _, p := range c.PagePaths {
		if path == p || p != "/" && strings.HasSuffix(p, "/") && strings.HasPrefix(path, p) {
			return c.Page != nil
		}
	}
	return false
}

// handToPage gives the connection to whoever serves the rest of the site.
func (l *loop) handToPage(i uint32, hd *head) {
	read, w := bytes.Clone(hd.buf), hd.wire
	fd, err := l.handOver(i, hd)
	if err != nil {
		poll.Close(fd)
		return
	}
	page := l.hub.cfg.Page
	// Detach may wait; the loop must not.
	go func() {
		conn, err := poll.Detach(fd)
		if err != nil {
			l.hub.log.Error("handing a connection to the page failed", zap.Error(err))
			return
		}
		page(&resumedConn{Conn: w.over(conn), read: read})
	}()
}

// resumedConn gives back first what was already read.
type resumedConn struct {
	net.Conn
	read []byte
}

func (c *resumedConn) Read(b []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(b, c.read)
		c.read = c.read[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// mayHave checks what the request asks for beyond the defaults, and the
// transports that are served.
func (hs *handshake) mayHave(cfg *Config, id *auth.Identity) api.Refusal {
	for _, s := range hs.query["subject"] {
		switch {
		case !api.ValidPattern(s):
			return refuseMalformed("subject is not a valid NATS subject")
		case !id.MaySubscribe(s):
			hs.forbidden = s
			return api.Refusal{Kind: api.RefusedForbidden, Message: "your token does not grant a subject that the request names"}
		case !slices.Contains(id.Subjects, s) && !slices.Contains(hs.own, s):
			hs.own = append(hs.own, s)
		}
	}
	if len(id.Subjects)+len(hs.own) > cfg.Subjects {
		return api.Refusal{Kind: api.RefusedForbidden, Message: "the request names more subjects than a session may have"}
	}
	if hs.transport == transportPoll && cfg.History == nil {
		return api.Refusal{Kind: api.RefusedNeedsStream, Message: "polling needs a stored stream, and this gateway has none"}
	}
	return api.Refusal{}
}

// acceptsEventStream reports whether an Accept header names server-sent events,
// with whatever parameters.
func acceptsEventStream(accept string) bool {
	for item := range strings.SplitSeq(accept, ",") {
		media, _, _ := strings.Cut(item, ";")
		if strings.EqualFold(strings.TrimSpace(media), "text/event-stream") {
			return true
		}
	}
	return false
}

// answer is what goes out before the first frame.
func (hs *handshake) answer(cfg *Config) []byte {
	switch hs.transport {
	case transportSSE:
		return api.AppendEventStreamHead(nil, hs.cors)
	case transportPoll:
		return nil
	}
	if cfg.Compression {
		hs.deflate = negotiateDeflate(hs.request.extensions)
	}
	return hs.request.upgradeAnswer(hs.deflate)
}

// acceptGUID is what a server mixes into the client's key (RFC 6455 §1.3).
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// upgradeAnswer makes the 101 (RFC 6455 §4.2.2). extension is empty for none.
func (r *request) upgradeAnswer(extension string) []byte {
	var keyed [24 + len(acceptGUID)]byte // a key of 16 bytes has 24 in base64
	sum := sha1.Sum(append(append(keyed[:0], r.key...), acceptGUID...))
	b := make([]byte, 0, 320)
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	if slices.Contains(r.protocols, subprotocol) {
		b = append(b, "\r\nSec-WebSocket-Protocol: "+subprotocol...)
	}
	if extension != "" {
		b = append(b, "\r\nSec-WebSocket-Extensions: "...)
		b = append(b, extension...)
	}
	return append(b, "\r\n\r\n"...)
}

// refuse sends a handshake back to the loop that accepted it, to be told no.
func (h *Hub) refuse(hs *handshake, r api.Refusal) {
	h.handshakes[r.Kind].Add(1)
	h.halfOpen.Add(-1)
	h.flight.refused(h.cfg.Now(), hs, r)
	hs.from.post(message{refuse: &answer{fd: hs.fd, wire: hs.wire, response: api.AppendRefusal(nil, r, hs.cors)}})
}
