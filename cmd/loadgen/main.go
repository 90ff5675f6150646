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
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

type cli struct {
	Idle    idleCommand      `cmd:"" help:"Memory of idle sessions: slope of the server's RSS, kernel memory beside it."`
	Storm   stormCommand     `cmd:"" help:"Server CPU a handshake, from accept to welcome."`
	Fanout  fanoutCommand    `cmd:"" help:"Broadcasts to all sessions, a window of them under way."`
	Unicast unicastCommand   `cmd:"" help:"Events to random users at a steady rate."`
	Mixed   mixedCommand     `cmd:"" help:"Unicasts to probe sessions while broadcasts run."`
	Tokens  tokensCommand    `cmd:"" help:"Server CPU a handshake with HS256 and ES256 tokens, with and without the token cache."`
	Revoke  revokeCommand    `cmd:"" help:"Time from a revocation to the last close frame of a user's sessions on two gateways."`
	Stored  storedCommand    `cmd:"" help:"Stored events beside ephemeral ones: deliveries a CPU-second."`
	Resume  resumeCommand    `cmd:"" help:"Sessions that come back with a cursor, beside plain handshakes."`
	Kids    kidsCommand      `cmd:"" help:"Good handshakes beside a flood of unknown key names."`
	TLS     tlsCommand       `cmd:"" name:"tls" help:"Memory of idle TLS sessions: slope of the gateway's RSS."`
	Frozen  frozenCommand    `cmd:"" help:"Broadcasts beside clients that stop reading, and without."`
	Heads   slowheadsCommand `cmd:"" name:"slowheads" help:"Honest handshakes beside attackers that drip their heads, and without."`
	Drain   drainCommand     `cmd:"" help:"A gateway drains, and its clients go to another."`
	Churn   churnCommand     `cmd:"" help:"What a million connects and disconnects leave behind."`
	Cgroup  cgroupCommand    `cmd:"" help:"Gateways in memory cgroups: sessions until refused, and frozen readers under broadcast."`
	Deflate deflateCommand   `cmd:"" help:"Broadcasts of JSON with and without permessage-deflate."`
	Cold    coldStartCommand `cmd:"" name:"coldstart" help:"Size of the program, and time from its start until it is ready."`
	Compare compareCommand   `cmd:"" help:"All rows for the gateway and its peers in turn, medians."`
	Floor   floorCommand     `cmd:"" help:"Serve the bare loop of write(2) that broadcasts are compared with."`
	Hold    holdCommand      `cmd:"" hidden:"" help:"Hold sessions until standard input ends."`
	Million millionCommand   `cmd:"" help:"As many gateways as the descriptor limit asks for, 1,000,000 sessions, events to all and to single users."`
	Crew    crewCommand      `cmd:"" hidden:"" help:"Hold sessions and account what they get, by orders on standard input."`
	Lanes   lanesCommand     `cmd:"" help:"Polling, long polling, SSE and WebSocket: requests, CPU, bytes, latency, empty answers."`
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
	Protocol string `default:"pushgate" enum:"pushgate,sse,natsws" help:"How clients subscribe: not at all, over WebSocket or as server-sent events, or as NATS clients over WebSocket."`
	Users    string `default:"u" help:"First letters of the user names."`

	// What only servers that a command started itself have.
	admin  string      // where the gateway's metrics are
	tokens []string    // of the users in order, instead of tokens made when they are sent
	query  string      // of the handshake, with its question mark
	root   string      // that events are published under; empty: push
	tls    *tls.Config // for sessions that are held over TLS

	slow    int  // of the clients, so many of the first can be frozen: their sockets take little
	deflate bool // clients offer permessage-deflate
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
