package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// admin is the listeners for operators, apart from the public one.
type admin struct {
	addr   net.Addr
	debug  net.Addr // nil: none
	failed chan error

	servers []*http.Server
	serving sync.WaitGroup
}

func startAdmin(g *gateway, level *zap.AtomicLevel) (*admin, error) {
	a := &admin{failed: make(chan error, 2)}
	page, err := newStatus(g)
	if err != nil {
		return nil, err
	}
	if a.addr, err = a.serve("admin.listen", g.cfg.Admin.Listen, adminRoutes(g, page)); err != nil {
		return nil, err
	}
	if g.cfg.Admin.DebugListen == "" {
		return a, nil
	}
	if a.debug, err = a.serve("admin.debug_listen", g.cfg.Admin.DebugListen, debugRoutes(level)); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *admin) serve(key, address string, handler http.Handler) (net.Addr, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", key, address, err)
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	a.servers = append(a.servers, s)
	a.serving.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- fmt.Errorf("%s: %w", key, err)
		}
	})
	return ln.Addr(), nil
}

func (a *admin) close() {
	for _, s := range a.servers {
		_ = s.Close()
	}
	a.serving.Wait()
}

func adminRoutes(g *gateway, page *status) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newMetrics(g),
	)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := g.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	page.serveOn(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func debugRoutes(level *zap.AtomicLevel) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("POST /debug/freemem", func(w http.ResponseWriter, _ *http.Request) {
		debug.FreeOSMemory()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.Handle("/log/level", level)
	return mux
}
