//go:build !nodev

package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"pushgate/api"
)

// This is the backend of the demo page: what its buttons do and what its
// figures are.

// live runs a gateway until ctx ends, or until the page wishes for a restart:
// then it says so. It closes the gateway.
func (p *page) live(ctx context.Context, hurry <-chan struct{}, g *gateway) (again bool, err error) {
	defer g.Close()
	defer p.gateway.Store(nil)
	life, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-p.restart:
			end()
		case <-life.Done():
		}
	}()
	err = g.Run(life, hurry)
	// A second wish is for what has just happened. The next gateway listens
	// before it comes here: what is wished for from now on is for that one.
	select {
	case <-p.restart:
	default:
	}
	return ctx.Err() == nil, err
}

// again restarts the gateway as a rollout would: it drains, closes all its
// sessions and its listener, and a new one is built. NATS goes on.
func (p *page) again(w http.ResponseWriter, r *http.Request) {
	if !readJSON(w, r, &struct{}{}) {
		return
	}
	select {
	case p.restart <- struct{}{}:
	default: // one is wished for already
	}
	answer(w, map[string]any{"restarting": true})
}

const (
	maxBurst    = 1000
	maxPad      = 32 << 10
	maxBurstPad = 8 << 20 // all padding of a burst
)

// burst publishes events with running numbers for one user: the page counts
// by them what was lost, and what came twice. pad makes them larger.
func (p *page) burst(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Sub   string `json:"sub"`
		Run   string `json:"run"`  // whose numbers they are
		From  int    `json:"from"` // the first
		Count int    `json:"count"`
		Pad   int    `json:"pad"` // bytes
	}
	if !readJSON(w, r, &body) {
		return
	}
	if !api.ValidToken(body.Sub) || !api.ValidToken(body.Run) || strings.ContainsAny(body.Run, `"\\`) ||
		body.From < 1 || body.Count < 1 || body.Count > maxBurst ||
		body.Pad < 0 || body.Pad > maxPad || body.Pad*body.Count > maxBurstPad {
		http.Error(w, fmt.Sprintf("sub and run must be NATS tokens, from at least 1, count 1 to %d, pad at most %d, and %d in all",
			maxBurst, maxPad, maxBurstPad), http.StatusBadRequest)
		return
	}
	subject, pad := p.cfg.NATS.Prefix+".user."+body.Sub, strings.Repeat("x", body.Pad)
	var err error
	for n := body.From; n < body.From+body.Count && err == nil; n++ {
		data := fmt.Sprintf(`{"run":"%s","n":%d}`, body.Run, n)
		if pad != "" {
			data = fmt.Sprintf(`{"run":"%s","n":%d,"pad":"%s"}`, body.Run, n, pad)
		}
		err = p.nats.Publish(subject, []byte(data))
	}
	if p.flushed(w, err) {
		answer(w, map[string]any{"published": body.Count, "subject": subject})
	}
}

const (
	canvasSubjects = "canvas.>" // what the page's token grants
	canvasWidth    = 24         // tiles; all must be at most 1,024, as many as from:"last" brings
	canvasHeight   = 16
	canvasColors   = 12
)

// canvas takes {"tiles":[[x,y,color],…]} and publishes each tile on a subject
// of its own: the newest event of each is the picture.
func (p *page) canvas(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Tiles [][3]int `json:"tiles"`
	}
	if !readJSON(w, r, &body) {
		return
	}
	valid := len(body.Tiles) > 0 && len(body.Tiles) <= canvasWidth*canvasHeight
	for _, t := range body.Tiles {
		valid = valid && below(t[0], canvasWidth) && below(t[1], canvasHeight) && below(t[2], canvasColors)
	}
	if !valid {
		http.Error(w, fmt.Sprintf("tiles must be [x, y, color] each, below %d, %d and %d, and not more than the canvas has",
			canvasWidth, canvasHeight, canvasColors), http.StatusBadRequest)
		return
	}
	var err error
	for _, t := range body.Tiles {
		if err == nil {
			err = p.nats.Publish(fmt.Sprintf("%s.canvas.%d.%d", p.cfg.NATS.Prefix, t[0], t[1]), fmt.Appendf(nil, `{"color":%d}`, t[2]))
		}
	}
	if p.flushed(w, err) {
		answer(w, map[string]any{"published": len(body.Tiles)})
	}
}

func below(n, end int) bool { return n >= 0 && n < end }

// figures are the gateway's own, which /metrics shows, too.
func (p *page) figures(w http.ResponseWriter, _ *http.Request) {
	g := p.gateway.Load()
	if g == nil {
		http.Error(w, "the gateway is being restarted", http.StatusServiceUnavailable)
		return
	}
	st := g.hub.Stats()
	answer(w, map[string]any{
		"sessions": st.Transports, "idle": st.Idle, "polls": st.Polls, "outbox": st.Outbox,
		"ring_events": st.RingEvents, "ring_bytes": st.RingBytes,
		"events": st.Events, "deliveries": st.Deliveries, "slow": st.Closes[api.ReasonSlow.String()],
	})
}
