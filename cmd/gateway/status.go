package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"

	"pushgate/internal/session"
)

// status is the page for people on the admin listener. Like the metrics it
// asks nobody who they are: it shows no user, no token, no payload, and secrets
// as gateway check does.
type status struct {
	g        *gateway
	config   string
	readings readings
}

//go:embed status.html
var statusPage []byte

// statusPolicy lets the page run its own script and style, which it names by
// their hashes, and ask for its figures; nothing else.
var statusPolicy = fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; img-src data:; connect-src 'self'; "+
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
	hashOf("script"), hashOf("style"))

// hashOf is what a policy calls the text of the page's one element of a name.
func hashOf(element string) string {
	_, text, _ := strings.Cut(string(statusPage), "<"+element+">")
	text, _, _ = strings.Cut(text, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// newStatus begins to keep readings, until the gateway ends.
func newStatus(g *gateway) (*status, error) {
	var config bytes.Buffer
	if err := printConfig(&config, g.cfg, nil); err != nil {
		return nil, err
	}
	s := &status{g: g, config: config.String()}
	s.readings.add(s.read())
	g.watching.Go(func() { s.keepReading(g.life.Done()) })
	return s, nil
}

func (s *status) serveOn(mux *http.ServeMux) {
	guard := func(kind string, serve http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", kind)
			h.Set("Cache-Control", "no-store")
			h.Set("Content-Security-Policy", statusPolicy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
			serve(w, r)
		}
	}
	mux.HandleFunc("GET /{$}", guard("text/html; charset=utf-8", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(statusPage)
	}))
	mux.HandleFunc("GET /status.json", guard("application/json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.report())
	}))
}

// report is what /status.json says. Times are seconds, sizes are bytes, rates
// are those of the last ten seconds.
type report struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Uptime  int    `json:"uptime"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not ready

	Sessions      int64            `json:"sessions"`
	SessionsLimit int              `json:"sessions_limit"`
	Transports    map[string]int64 `json:"transports"`
	HalfOpen      int64            `json:"half_open"`
	Stalled       int64            `json:"stalled"`
	Outbox        int64            `json:"outbox"`

	Rates   rates         `json:"rates"`
	Latency latencyReport `json:"latency"`
	Loops   []loopReport  `json:"loops"`
	Memory  memoryReport  `json:"memory"`
	NATS    natsReport    `json:"nats"`
	Stream  *streamReport `json:"stream"` // null: events are not stored

	Endings  []tally          `json:"endings"`
	Refusals []tally          `json:"refusals"`
	Tokens   []tally          `json:"tokens"`
	Drops    []tally          `json:"drops"`
	Recent   []session.Ending `json:"recent"`
	Config   string           `json:"config"`
}

type memoryReport struct {
	Resident int64 `json:"resident"`
	Limit    int64 `json:"limit"` // 0: none
	Tables   int64 `json:"tables"`
	Session  int64 `json:"session"` // of the tables, for each session
}

type natsReport struct {
	Connected  bool  `json:"connected"`
	Reconnects int64 `json:"reconnects"`
	Waiting    int   `json:"waiting"`
	Room       int   `json:"waiting_limit"`
	Unsent     int   `json:"unsent"`
	Subjects   int   `json:"subjects"`
}

type streamReport struct {
	Name       string  `json:"name"`
	Sequence   uint64  `json:"sequence"`
	Gaps       int64   `json:"gaps"`
	Lost       int64   `json:"lost"`
	RingEvents int     `json:"ring_events"`
	RingBytes  int64   `json:"ring_bytes"`
	RingAge    float64 `json:"ring_age"`
	Replayed   int64   `json:"replayed"`
	Requests   uint64  `json:"history_requests"`
}

func (s *status) report() *report {
	now := s.read()
	st, nats := &now.Stats, s.g.bus.Stats()
	r := &report{
		Version: versionString(), Go: runtime.Version(), Uptime: int(now.at.Sub(s.g.began).Seconds()), Ready: true,
		Sessions: st.Sessions, SessionsLimit: s.g.limit, Transports: st.Transports, HalfOpen: st.HalfOpen, Stalled: st.Stalled, Outbox: st.Outbox,
		Memory: memoryReport{Limit: s.g.memory, Tables: st.Memory, Session: st.Memory / max(st.Sessions, 1)},
		NATS: natsReport{
			Connected: nats.Connected, Reconnects: nats.Reconnects, Waiting: nats.Waiting, Room: nats.Room, Unsent: nats.Unsent, Subjects: nats.Subjects,
		},
		Recent: s.g.hub.RecentEndings(), Config: s.config,
	}
	r.Memory.Resident, _ = residentSet()
	if err := s.g.ready(); err != nil {
		r.Ready, r.Reason = false, err.Error()
	}
	if name := s.g.cfg.Durable.Stream; name != "" {
		r.Stream = &streamReport{
			Name: name, Sequence: nats.Stream.Last, Gaps: nats.Stream.Gaps, Lost: nats.Stream.Lost,
			RingEvents: st.RingEvents, RingBytes: st.RingBytes, RingAge: st.RingAge.Seconds(),
			Replayed: st.Replayed, Requests: s.g.bus.FetchStats().Requests,
		}
	}
	before, minute := s.readings.since(now.at)
	r.Rates, r.Loops = ratesOf(&now, &before), loopsOf(&now, &before)
	r.Latency = latencyOf(&now, &minute)
	r.Endings = talliesOf(st.Closes, minute.Closes)
	r.Refusals = talliesOf(st.Handshakes, minute.Handshakes, accepted)
	r.Tokens = talliesOf(st.BadTokens, minute.BadTokens)
	r.Drops = talliesOf(st.Drops, minute.Drops)
	return r
}
