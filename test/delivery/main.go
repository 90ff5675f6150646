// Command delivery breaks things while events go on, and counts what clients
// make of it: gateways are killed, nodes of a NATS cluster are killed, history
// is taken away. The servers are real ones, built for the run, on ports of this
// machine; the clients do what a client library does and no more. What the
// stream holds in the end is what each of them should have got.
//
// Each subcommand prints its progress to stderr, a table and then one line of
// JSON to stdout. It exits with 1 when something was lost, came twice or out of
// order, or was not said. Every run is bounded in time and ends by itself.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

type cli struct {
	Gateways gatewaysCommand `cmd:"" help:"Two gateways, killed in turn, and clients that go to either."`
	Roll     rollCommand     `cmd:"" help:"Two gateways behind a TCP proxy, rolled out again and again, and clients that stay."`
	Nodes    nodesCommand    `cmd:"" help:"A NATS cluster of three whose nodes are killed in turn, and clients that stay."`
	History  historyCommand  `cmd:"" help:"History that is trimmed, purged or made anew while a client is away."`
}

// errShort says that a promise was not kept; the table says which.
var errShort = errors.New("the promise was not kept")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	k := kong.Parse(&c, kong.Name("delivery"),
		kong.Description("What is delivered while things break."),
		kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

// report prints a table of a result and then the result as one line of JSON.
func report(w io.Writer, title string, result any, rows [][]string) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "%s\n", title)
	for _, row := range rows {
		for _, cell := range row {
			_, _ = fmt.Fprintf(table, "  %s\t", cell)
		}
		_, _ = fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(result)
}

func progress(format string, a ...any) { _, _ = fmt.Fprintf(os.Stderr, format+"\n", a...) }
