package main

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"

	"pushgate/api"
)

const (
	root      = "push." // of what backends publish to
	broadcast = "broadcast"

	// writeWait is a compromise: nobody else gets anything while a slow client
	// is waited for, and a client on a busy machine must not be taken for one.
	writeWait = 15 * time.Second

	// noHeartbeat stands in the welcome frame: silence means nothing here.
	noHeartbeat = 24 * time.Hour

	maxMessage = 4 << 10 // of a client, in bytes
)

// hub knows who is connected and gives each event to whom it is for.
type hub struct {
	upgrader websocket.Upgrader
	parser   *jwt.Parser
	secret   []byte
	reading  sync.WaitGroup // one for each connection in conns

	mu     sync.RWMutex
	conns  map[string][]*conn // by subject
	closed bool

	// Of deliver alone, which NATS calls from one goroutine.
	frame      []byte
	recipients []*conn
}

// conn is one client's connection.
type conn struct {
	ws       *websocket.Conn
	subjects [2]string
	mu       sync.Mutex // held while writing messages
}

func newHub(secret []byte) *hub {
	return &hub{
		// Small buffers, and write buffers only while writing: an idle
		// connection should cost little.
		upgrader: websocket.Upgrader{
			ReadBufferSize: 512, WriteBufferSize: 512, WriteBufferPool: new(sync.Pool),
			HandshakeTimeout: 10 * time.Second, Subprotocols: []string{"pushgate.v1"},
		},
		parser: jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired()),
		secret: secret,
		conns:  make(map[string][]*conn),
	}
}

func (h *hub) serveWS(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
		return
	}
	var claims jwt.RegisteredClaims
	key := func(*jwt.Token) (any, error) { return h.secret, nil }
	if _, err := h.parser.ParseWithClaims(token, &claims, key); err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		http.Error(w, "the token is not good", http.StatusUnauthorized)
		return
	}
	if !api.ValidToken(claims.Subject) {
		http.Error(w, "the claim sub cannot be part of a subject", http.StatusForbidden)
		return
	}
	ws, err := h.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	ws.SetReadLimit(maxMessage)

	c := &conn{ws: ws, subjects: [2]string{"user." + claims.Subject, broadcast}}
	if !h.welcome(c, &claims) {
		_ = ws.Close()
		return
	}
	// A goroutine of its own, so that what net/http holds for the request can
	// be freed.
	go h.read(c)
}

// welcome adds c and sends the welcome frame. The lock makes it the first
// frame, and no event is missed after it.
func (h *hub) welcome(c *conn, claims *jwt.RegisteredClaims) bool {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	frame := api.AppendWelcome(nil, &api.Welcome{
		Session: base64.RawURLEncoding.EncodeToString(id[:]), User: claims.Subject, Subjects: c.subjects[:],
		Expires: claims.ExpiresAt.Time, Heartbeat: noHeartbeat,
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if !h.join(c) {
		return false
	}
	c.write(frame, nil)
	return true
}

func (h *hub) join(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.reading.Add(1)
	for _, subject := range c.subjects {
		h.conns[subject] = append(h.conns[subject], c)
	}
	return true
}

func (h *hub) leave(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, subject := range c.subjects {
		list := h.conns[subject]
		i := slices.Index(list, c)
		last := len(list) - 1
		list[i], list[last] = list[last], nil
		if last == 0 {
			delete(h.conns, subject)
		} else {
			h.conns[subject] = list[:last]
		}
	}
}

// read reads until the connection ends. Ping frames are answered by the
// library while it reads, ping messages here; the rest of what a client may
// say to the gateway is not served.
func (h *hub) read(c *conn) {
	defer h.reading.Done()
	defer h.leave(c)
	defer func() { _ = c.ws.Close() }()
	for {
		_, message, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		control, err := api.ParseControl(message)
		switch {
		case err != nil:
			c.send(api.AppendError(nil, control.Ref, api.CodeBadRequest, err.Error()), nil)
		case control.Type == "ping":
			c.send(api.AppendPong(nil, control.Ref, ""), nil)
		default:
			c.send(api.AppendError(nil, control.Ref, api.CodeUnavailable, "not served here"), nil)
		}
	}
}

// deliver gives one event to whom it is for, right here on the goroutine of
// the NATS subscription: no hand-over is faster than none.
func (h *hub) deliver(m *nats.Msg) {
	subject := strings.TrimPrefix(m.Subject, root)
	// A copy, so that nobody has to wait to join while clients are written to.
	h.mu.RLock()
	h.recipients = append(h.recipients[:0], h.conns[subject]...)
	h.mu.RUnlock()
	if len(h.recipients) == 0 {
		return
	}
	defer clear(h.recipients)

	e := api.Event{Subject: subject, ID: m.Header.Get("Nats-Msg-Id"), Time: time.Now(), Data: m.Data}
	h.frame = api.AppendEvent(h.frame[:0], &e)
	var prepared *websocket.PreparedMessage
	if len(h.recipients) > 1 { // for one it would only be one more copy
		var err error
		if prepared, err = websocket.NewPreparedMessage(websocket.TextMessage, h.frame); err != nil {
			return // cannot be: it writes to memory
		}
	}
	for _, c := range h.recipients {
		c.send(h.frame, prepared)
	}
}

// send writes one frame: prepared, where it is given.
func (c *conn) send(frame []byte, prepared *websocket.PreparedMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write(frame, prepared)
}

// write is send for who holds the lock. A client that does not take the frame
// in time is closed, which ends its read.
func (c *conn) write(frame []byte, prepared *websocket.PreparedMessage) {
	_ = c.ws.SetWriteDeadline(time.Now().Add(writeWait))
	var err error
	if prepared != nil {
		err = c.ws.WritePreparedMessage(prepared)
	} else {
		err = c.ws.WriteMessage(websocket.TextMessage, frame)
	}
	if err != nil {
		_ = c.ws.Close()
	}
}

// close ends all connections and waits for their goroutines.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	all := slices.Clone(h.conns[broadcast])
	h.mu.Unlock()
	goingAway := websocket.FormatCloseMessage(websocket.CloseGoingAway, "going away")
	deadline := time.Now().Add(writeWait) // one for all: the end must not be long
	for _, c := range all {
		_ = c.ws.WriteControl(websocket.CloseMessage, goingAway, deadline)
		_ = c.ws.Close()
	}
	h.reading.Wait()
}
