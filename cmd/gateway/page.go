//go:build !nodev

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"pushgate/api"
	"pushgate/web"
)

// page serves the demo page on connections that the gateway's own listener
// hands over, and the few things that the page asks of a backend. It exists
// in dev only.
type page struct {
	cfg    *Config
	nats   *nats.Conn
	server *http.Server
	conns  handover
	done   chan struct{}

	gateway atomic.Pointer[gateway] // the one that runs, nil between two
	restart chan struct{}           // holds one wish for a new one
}

// natsWithin is how long the server in the same process may take for an answer.
const natsWithin = 10 * time.Second

// newPage connects to NATS and starts to serve; its caller closes it.
func newPage(cfg *Config) (*page, error) {
	nc, err := nats.Connect(cfg.NATS.URL, nats.Name("pushgate dev page"), nats.Timeout(natsWithin))
	if err != nil {
		return nil, fmt.Errorf("demo page: %w", err)
	}
	p := &page{cfg: cfg, nats: nc, conns: newHandover(), done: make(chan struct{}), restart: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	for _, route := range []struct {
		method, path string
		handle       http.HandlerFunc
	}{
		{"GET", "/{$}", served("index.html")},
		{"GET", "/console", served("console.html")},
		{"POST", "/dev/publish", p.publish},
		{"POST", "/dev/burst", p.burst},
		{"POST", "/dev/canvas", p.canvas},
		{"POST", "/dev/restart", p.again},
		{"GET", "/dev/figures", p.figures},
		{"GET", "/dev/token", p.token},
	} {
		mux.HandleFunc(route.method+" "+route.path, route.handle)
		mux.HandleFunc(route.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", route.method)
			refuse(w, api.RefusedMethod, "only "+route.method+" is served here")
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, api.RefusedPath, "there is nothing at this path")
	})
	p.server = &http.Server{Handler: localOnly(mux), ReadHeaderTimeout: 5 * time.Second}
	// The gateway looks at the first request of a connection only.
	p.server.SetKeepAlivesEnabled(false)
	go func() {
		defer close(p.done)
		_ = p.server.Serve(p.conns)
	}()
	return p, nil
}

// refuse answers as the gateway itself does.
func refuse(w http.ResponseWriter, kind api.RefusalKind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(kind.Status())
	_ = json.NewEncoder(w).Encode(map[string]string{"error": kind.String(), "message": message})
}

// served is one of the pages.
func served(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, web.Page, name) }
}

// take takes a connection over and closes it in the end.
func (p *page) take(conn net.Conn) { p.conns.give(conn) }

func (p *page) close() {
	_ = p.server.Close()
	<-p.done
	p.nats.Close()
}

// localOnly keeps pages of other sites away from the dev backend, which asks
// for no token: they reach it under no loopback name (DNS rebinding) or send
// their own origin.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if !loopbackHost(r.Host) || origin != "" && origin != "http://"+r.Host && origin != "https://"+r.Host {
			http.Error(w, "the dev backend answers this machine only", http.StatusForbidden)
			return
		}
		// A page of another site must not have this one clicked inside it.
		w.Header().Set("X-Frame-Options", "DENY")
		next.ServeHTTP(w, r)
	})
}

func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// maxPublish is NATS's own default limit.
const maxPublish = 1 << 20

// readJSON reads a body into v. What a form of another site could send without
// asking first is not taken.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		http.Error(w, "the body must be application/json", http.StatusUnsupportedMediaType)
		return false
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPublish))
	if err != nil {
		http.Error(w, "the body is larger than 1 MiB, or did not come", http.StatusRequestEntityTooLarge)
		return false
	}
	if err := json.Unmarshal(text, v); err != nil {
		http.Error(w, "the body must be one JSON object, and each member what it is meant to be", http.StatusBadRequest)
		return false
	}
	return true
}

// publish takes {"subject":"push.user.alice","data":…} and publishes data, any
// JSON value, as it stands.
func (p *page) publish(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Subject string          `json:"subject"`
		Data    json.RawMessage `json:"data"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	if body.Data == nil {
		http.Error(w, "the body must have subject and data", http.StatusBadRequest)
		return
	}
	if !api.ValidSubject(body.Subject) {
		http.Error(w, "subject is not a valid NATS subject", http.StatusBadRequest)
		return
	}
	if p.flushed(w, p.nats.Publish(body.Subject, body.Data)) {
		answer(w, map[string]any{"published": body.Subject})
	}
}

// flushed waits until NATS has what was published, unless that failed.
func (p *page) flushed(w http.ResponseWriter, failed error) bool {
	if failed == nil {
		failed = p.nats.FlushTimeout(natsWithin)
	}
	if failed != nil {
		http.Error(w, "NATS did not take it: "+failed.Error(), http.StatusBadGateway)
	}
	return failed == nil
}

// token mints a token for ?sub=, for ?ttl= where that is given, with the
// canvas granted.
func (p *page) token(w http.ResponseWriter, r *http.Request) {
	sub, ttl := r.URL.Query().Get("sub"), devTokenTTL(p.cfg)
	if !api.ValidToken(sub) {
		http.Error(w, "sub must be one NATS token: no dot, wildcard or space", http.StatusBadRequest)
		return
	}
	if text := r.URL.Query().Get("ttl"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Second || d > ttl {
			http.Error(w, fmt.Sprintf("ttl must be a time from 1s to %s", ttl), http.StatusBadRequest)
			return
		}
		ttl = d
	}
	token, err := devToken(p.cfg, sub, ttl, canvasSubjects)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, map[string]any{"token": token})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v)
}

// handover is a net.Listener that is given its connections.
type handover struct {
	conns chan net.Conn
	ended chan struct{}
	once  *sync.Once
}

func newHandover() handover {
	return handover{conns: make(chan net.Conn), ended: make(chan struct{}), once: new(sync.Once)}
}

func (h handover) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.ended:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (h handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h handover) Close() error {
	h.once.Do(func() { close(h.ended) })
	return nil
}

// Addr implements net.Listener.
func (h handover) Addr() net.Addr { return &net.TCPAddr{} }
