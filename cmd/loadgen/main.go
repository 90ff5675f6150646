//go:build linux

// Command loadgen measures a running gateway, and what it is compared with,
// from outside: raw epoll clients of a few hundred bytes each, real tokens,
// events over a real NATS. Every run is bounded in time and ends by itself.
//
// Each subcommand prints its progress to stderr, a table and then one line of
// JSON to stdout. "loadgen compare" runs all rows of docs/benchmarks.md.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

type cli struct {
	Idle    idleCommand    `cmd:"" help:"Memory of idle sessions: slope of the server's RSS, kernel memory beside it."`
	Storm   stormCommand   `cmd:"" help:"Server CPU a handshake, from accept to welcome."`
	Fanout  fanoutCommand  `cmd:"" help:"Broadcasts to all sessions, a window of them under way."`
	Unicast unicastCommand `cmd:"" help:"Events to random users at a steady rate."`
	Mixed   mixedCommand   `cmd:"" help:"Unicasts to probe sessions while broadcasts run."`
	Compare compareCommand `cmd:"" help:"All rows for the gateway and its peers in turn, medians."`
	Floor   floorCommand   `cmd:"" help:"Serve the bare loop of write(2) that broadcasts are compared with."`
	Hold    holdCommand    `cmd:"" hidden:"" help:"Hold sessions until standard input ends."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	k := kong.Parse(&c, kong.Name("loadgen"),
		kong.Description("Benchmarks against a running gateway."),
		kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

// target is the server under test. Its flags are the same for every command.
type target struct {
	Addr     string `default:"127.0.0.1:8080" help:"The server's address."`
	NATS     string `default:"nats://127.0.0.1:4222" name:"nats" help:"Where events are published."`
	Control  string `help:"The floor's control address, instead of NATS."`
	PID      int    `name:"pid" help:"The server's process, for its CPU and memory."`
	Debug    string `default:"127.0.0.1:6060" help:"The gateway's admin.debug_listen."`
	Secret   string `env:"GATEWAY_AUTH_HS256_SECRET" help:"The secret that the server verifies tokens with."`
	Protocol string `default:"pushgate" enum:"pushgate,natsws" help:"How clients subscribe: not at all, or as NATS clients over WebSocket."`
	Users    string `default:"u" help:"First letters of the user names."`
}

// report prints a table of a result and then the result as one line of JSON.
func report(title string, result any, rows [][2]string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "%s\n", title)
	for _, row := range rows {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", row[0], row[1])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func progress(format string, a ...any) { _, _ = fmt.Fprintf(os.Stderr, format+"\n", a...) }
