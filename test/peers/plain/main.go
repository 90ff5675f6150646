// Command plain is the peer that stands for "why not just write it?": a push
// server as a competent Go developer would first write it, with net/http,
// gorilla/websocket and a goroutine for each connection. Benchmarks compare
// the gateway's memory a connection, latency and fan-out with it.
//
// It speaks the gateway's protocol as far as a benchmark sees it: the token in
// the Authorization header, the welcome and event frames, ping. It leaves out
// what costs the gateway something: outboxes, heartbeats, the token's expiry
// after the handshake, own subscriptions, replay, draining, and all headers of
// an event but Nats-Msg-Id. So what it is measured at flatters it, which is the
// fair direction.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatalf("plain: %v", err)
	}
}

// run serves until ctx ends, and says on stdout when it does.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("plain", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "`address` of the WebSocket listener")
	natsURL := flags.String("nats", nats.DefaultURL, "`URL` of the NATS server")
	secret := flags.String("secret", "", "HS256 `secret` of the tokens")
	debugListen := flags.String("debug", "", "`address` of pprof and POST /debug/freemem; none if empty")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *secret == "" {
		return errors.New("-secret is needed to verify tokens with")
	}
	if *debugListen != "" {
		ln, err := net.Listen("tcp", *debugListen)
		if err != nil {
			return err
		}
		d := &http.Server{Handler: debugRoutes(), ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = d.Serve(ln) }()
		defer func() { _ = d.Close() }()
	}

	nc, err := nats.Connect(*natsURL, nats.Name("plain"), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("NATS %s: %w", *natsURL, err)
	}
	defer nc.Close()
	h := newHub([]byte(*secret))
	if _, err := nc.Subscribe(root+">", h.deliver); err != nil {
		return err
	}
	// Who reads "ready" may publish at once.
	if err := nc.Flush(); err != nil {
		return err
	}

	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ws", h.serveWS)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(ln) }()
	defer h.close()
	defer func() { _ = s.Close() }()

	if _, err := fmt.Fprintf(stdout, "ready %s\n", ln.Addr()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func debugRoutes() http.Handler {
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
	return mux
}
