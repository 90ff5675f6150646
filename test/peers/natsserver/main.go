// Command natsserver is the peer that stands for "why not let clients connect
// to NATS itself?": nats-server with its WebSocket listener and without TLS or
// authentication. Benchmarks compare the gateway's memory a connection,
// latency and fan-out with it; it is also the NATS server that the gateway and
// the other peers are measured with.
//
// It is nats-server as it comes, with its own limits and time-outs, but for
// the number of connections.
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
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	host = "127.0.0.1"

	// maxConnections leaves the limit to the descriptors; the server's own
	// default is 65,536.
	maxConnections = 1 << 20
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatalf("natsserver: %v", err)
	}
}

// run serves until ctx ends, and says on stdout when it does.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("natsserver", flag.ContinueOnError)
	port := flags.Int("port", 0, "`port` of the NATS listener; 0 chooses one")
	wsPort := flags.Int("ws-port", 0, "`port` of the WebSocket listener; 0 chooses one, -1 is none")
	jetStream := flags.String("jetstream", "", "`folder` that JetStream keeps its data in; there is no JetStream if empty")
	debugListen := flags.String("debug", "", "`address` of pprof and POST /debug/freemem; none if empty")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	opts := &server.Options{ServerName: "peer", Host: host, MaxConn: maxConnections, NoSigs: true, NoLog: true,
		JetStream: *jetStream != "", StoreDir: *jetStream}
	var err error
	if opts.Port, err = choosePort(*port); err != nil {
		return fmt.Errorf("-port: %w", err)
	}
	webSocket := *wsPort != -1
	if webSocket {
		opts.Websocket = server.WebsocketOpts{Host: host, NoTLS: true}
		if opts.Websocket.Port, err = choosePort(*wsPort); err != nil {
			return fmt.Errorf("-ws-port: %w", err)
		}
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

	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("the server does not start")
	}
	ready := "ready " + s.ClientURL()
	if webSocket {
		ready += " " + s.WebsocketURL()
	}
	if _, err := fmt.Fprintln(stdout, ready); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// choosePort turns a flag into the server's way to say it, and checks that the
// port is free: the server says so only after its time-out, and not plainly.
func choosePort(port int) (int, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	_ = ln.Close()
	if port == 0 {
		return server.RANDOM_PORT, nil
	}
	return port, nil
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
