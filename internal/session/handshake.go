package session

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gobwas/ws"
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
	fd      poll.FD
	from    *loop // which accepted it
	addr    uint32
	rest    []byte // bytes that came behind it
	request request
	query   url.Values
	token   string
	cors    string // the origin that may read a refusal
	resumes bool   // the client brought a cursor
}

// admission is a session that its home loop is to take in.
type admission struct {
	*handshake
	identity auth.Identity
	response []byte // the 101
}

// onRequest decides what a complete head asks for.
func (l *loop) onRequest(i uint32, hd *head, size int) {
	r, lines, err := parseHead(hd.buf[:size])
	if err != nil {
		l.refuseHead(i, hd, refuseMalformed(err.Error()), "")
		return
	}
	gateway := r.path == "/v1/ws" || r.path == "/v1/events"
	if !gateway && l.hub.cfg.Page != nil && lines <= headLines {
		l.handToPage(i, hd)
		return
	}
	hs := &handshake{from: l, addr: hd.addr, request: r}
	refused := hs.judge(&l.hub.cfg, size, lines, gateway)
	if refused.Kind == api.RefusedNot && r.method == http.MethodOptions {
		l.answerHead(i, hd, api.AppendPreflight(nil, hs.cors))
		return
	}
	if refused.Kind == api.RefusedNot && l.hub.draining.Load() {
		refused = draining()
	}
	if refused.Kind == api.RefusedNot && l.hub.limiter != nil && !l.hub.limiter.AllowN(l.now, 1) {
		refused = api.Refusal{Kind: api.RefusedRate, Message: "too many handshakes at the moment", RetryAfter: retryAfter()}
	}
	if refused.Kind != api.RefusedNot {
		l.refuseHead(i, hd, refused, hs.cors)
		return
	}
	hs.rest = bytes.Clone(hd.buf[size:])
	if hs.fd, err = l.handOver(i, hd); err != nil {
		poll.Close(hs.fd)
		return
	}
	l.hub.halfOpen.Add(1)
	select {
	case l.hub.verify <- hs:
	default:
		l.hub.refuse(hs, api.Refusal{Kind: api.RefusedFull, Message: "too many tokens are being verified", RetryAfter: retryAfter()})
	}
}

func draining() api.Refusal {
	return api.Refusal{Kind: api.RefusedDraining, Message: "this gateway is going away", RetryAfter: retryAfter()}
}

// judge checks everything about the request but its token's truth.
func (hs *handshake) judge(cfg *Config, size, lines int, gateway bool) api.Refusal {
	r := &hs.request
	allowed := !r.hasOrigin || originAllowed(cfg.Origins, r.origin, r.host)
	if allowed {
		hs.cors = r.origin
	}
	switch {
	case lines > headLines:
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
	if r.path == "/v1/ws" {
		if refused := r.judgeUpgrade(); refused.Kind != api.RefusedNot {
			return refused
		}
	}
	refused := hs.findToken(cfg)
	if refused.Kind != api.RefusedNot {
		return refused
	}
	if size-len(hs.token) > headBytes {
		return headTooLarge
	}
	hs.resumes = query.Get("cursor") != ""
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

// findToken takes the token from the one place it is in.
func (hs *handshake) findToken(cfg *Config) api.Refusal {
	r := &hs.request
	found := 0
	take := func(carrier, token string) {
		if slices.Contains(cfg.Carriers, carrier) {
			found++
			hs.token = token
		}
	}
	if r.bearer != "" {
		take("header", r.bearer)
	}
	offered := slices.Contains(r.protocols, subprotocol)
	for _, p := range r.protocols {
		if token, ok := strings.CutPrefix(p, bearerPrefix); ok {
			if !offered {
				return refuseMalformed("a bearer subprotocol needs pushgate.v1 offered beside it")
			}
			take("subprotocol", token)
		}
	}
	for _, token := range hs.query["access_token"] {
		take("query", token)
	}
	switch {
	case found > 1:
		return refuseMalformed("there is more than one token")
	case hs.token == "":
		return api.Refusal{Kind: api.RefusedToken, Message: "a token is needed"}
	}
	return api.Refusal{}
}

// originAllowed tells whether a page of this origin may connect: one of the
// request's own host, or one that is listed.
func originAllowed(allowed []string, origin, host string) bool {
	for _, a := range allowed {
		if a == "*" || strings.EqualFold(a, origin) {
			return true
		}
	}
	_, originHost, ok := strings.Cut(origin, "://")
	return ok && strings.EqualFold(originHost, host)
}

// handToPage gives the connection to whoever serves the rest of the site.
func (l *loop) handToPage(i uint32, hd *head) {
	read := bytes.Clone(hd.buf)
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
		page(&resumedConn{Conn: conn, read: read})
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

// verifyAll is one verifier: it checks tokens, away from the loops.
func (h *Hub) verifyAll() {
	for hs := range h.verify {
		h.verifyOne(hs)
	}
}

func (h *Hub) verifyOne(hs *handshake) {
	id, err := h.cfg.Verifier.Verify(hs.token)
	if err != nil {
		h.noteBadToken(err)
		h.refuse(hs, refusalOf(err))
		return
	}
	if refused := hs.mayHave(&id); refused.Kind != api.RefusedNot {
		h.refuse(hs, refused)
		return
	}
	response, err := hs.request.upgradeAnswer()
	if err != nil {
		h.refuse(hs, refuseMalformed(err.Error()))
		return
	}
	if n := h.open.Add(1); h.cfg.Sessions > 0 && n > int64(h.cfg.Sessions) {
		h.open.Add(-1)
		h.refuse(hs, api.Refusal{Kind: api.RefusedFull, Message: "this gateway is full", RetryAfter: retryAfter()})
		return
	}
	a := &admission{handshake: hs, identity: id, response: response}
	admit := func() { h.homeOf(id.User).post(message{admit: a}) }
	if h.cfg.Interest == nil {
		admit()
		return
	}
	h.cfg.Interest.Acquire(id.Subjects, admit)
}

// noteBadToken counts and logs why a token was refused; the token itself, and
// whatever it holds, stays out of it.
func (h *Hub) noteBadToken(err error) {
	var bad *auth.Error
	if !errors.As(err, &bad) {
		h.log.Error("a token could not be verified", zap.Error(err))
		return
	}
	h.badTokens[bad.Reason].Add(1)
	h.log.Debug("token refused", zap.Stringer("reason", bad.Reason), zap.String("message", bad.Message))
}

// mayHave checks what the request asks for beyond the defaults, and the
// transports that are served.
func (hs *handshake) mayHave(id *auth.Identity) api.Refusal {
	for _, s := range hs.query["subject"] {
		if !api.ValidPattern(s) {
			return refuseMalformed("subject is not a valid NATS subject")
		}
		if !slices.Contains(id.Subjects, s) {
			return api.Refusal{Kind: api.RefusedForbidden, Message: "your token does not grant a subject that the request names"}
		}
	}
	if hs.request.path == "/v1/events" {
		if acceptsEventStream(hs.request.accept) {
			return api.Refusal{Kind: api.RefusedUnsupported, Message: "server-sent events are not served by this gateway: use WebSocket"}
		}
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

// upgradeAnswer makes the 101. The request was judged already, more strictly
// in most and, as RFC 9110 §5.3 demands for lists, less in how headers are
// split into lines; what it means goes to the library in its plainest form.
func (r *request) upgradeAnswer() ([]byte, error) {
	var head, out bytes.Buffer
	head.WriteString("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ")
	head.WriteString(r.key)
	if slices.Contains(r.protocols, subprotocol) {
		head.WriteString("\r\nSec-WebSocket-Protocol: " + subprotocol)
	}
	head.WriteString("\r\n\r\n")
	_, err := upgrader.Upgrade(struct {
		io.Reader
		io.Writer
	}{&head, &out})
	if err != nil {
		return nil, errors.New("the WebSocket handshake is not valid")
	}
	return out.Bytes(), nil
}

var upgrader = ws.Upgrader{
	ReadBufferSize: 512, WriteBufferSize: 512,
	Protocol: func(p []byte) bool { return string(p) == subprotocol },
}

// refuse sends a handshake back to the loop that accepted it, to be told no.
func (h *Hub) refuse(hs *handshake, r api.Refusal) {
	h.handshakes[r.Kind].Add(1)
	h.halfOpen.Add(-1)
	hs.from.post(message{refuse: &answer{fd: hs.fd, response: api.AppendRefusal(nil, r, hs.cors)}})
}
