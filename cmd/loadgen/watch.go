//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// watch looks at a gateway, and at what the kernel holds for it, while clients
// of it are frozen.
type watch struct {
	target *target
	frozen int
	files  int // that the gateway has when the frozen ones' sockets are gone
	stop   context.CancelFunc
	done   chan struct{}
	began  time.Time

	rss, kernel         int64 // at first
	peakRSS, peakKernel int64
	closed, gone        time.Duration // until the frozen ones were, 0 is not yet
	most                float64       // of them closed
}

// watch begins; result or end ends it.
func (t *target) watch(ctx context.Context, files, frozen int) (*watch, error) {
	w := &watch{target: t, frozen: frozen, files: files, done: make(chan struct{}), began: time.Now()}
	var err error
	if w.rss, err = t.rss(); err != nil {
		return nil, err
	}
	if w.kernel, err = t.socketMemory(); err != nil {
		return nil, err
	}
	w.peakRSS, w.peakKernel = w.rss, w.kernel
	ctx, w.stop = context.WithCancel(ctx)
	go w.look(ctx)
	return w, nil
}

func (w *watch) look(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for w.frozen == 0 || w.gone == 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if rss, err := w.target.rss(); err == nil {
			w.peakRSS = max(w.peakRSS, rss)
		}
		if kernel, err := w.target.socketMemory(); err == nil {
			w.peakKernel = max(w.peakKernel, kernel)
		}
		if w.frozen == 0 {
			continue
		}
		if w.closed == 0 {
			w.most = w.target.closedForSlowness()
			if w.most >= float64(w.frozen) {
				w.closed = time.Since(w.began)
			}
		} else if w.target.files() <= w.files {
			w.gone = time.Since(w.began)
		}
	}
}

// closedForSlowness counts sessions that were ended for not reading.
func (t *target) closedForSlowness() (n float64) {
	for _, reason := range []string{"slow_consumer", "heartbeat", "overloaded"} {
		if v, err := t.counter(fmt.Sprintf("pushgate_closes_total{reason=%q}", reason)); err == nil {
			n += v
		}
	}
	return n
}

func (w *watch) end() {
	w.stop()
	<-w.done
}

// result waits until the frozen ones are gone, for ten seconds at most, and
// adds what was seen.
func (w *watch) result(ctx context.Context, got map[string]float64) error {
	if w.frozen > 0 {
		select {
		case <-w.done:
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
	}
	w.end()
	got["frozen closed"], got["after s"], got["sockets gone s"] = w.most, w.closed.Seconds(), w.gone.Seconds()
	got["RSS MB more"], got["kernel MB more"] = float64(w.peakRSS-w.rss)/1e6, float64(w.peakKernel-w.kernel)/1e6
	return ctx.Err()
}
