// Command gateway is Pushgate: it holds the WebSocket connections of an app's
// clients and sends them what backends publish to NATS. "gateway --help"
// teaches the rest.
//
// This package wires the floors below it together and reads configuration and
// command line; it decides nothing that a client can see.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // something failed while running
	exitUsage   = 2 // configuration or command line
)

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// invocation is what a command runs with.
type invocation struct {
	ctx            context.Context // ends at the first SIGINT or SIGTERM
	hurry          <-chan struct{} // closed at the second
	env            []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run is the program: it returns the exit code. It closes nothing that it is
// given.
func run(args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var cli commandLine
	cli.prepare()
	helped := false
	parser, err := kong.New(&cli,
		kong.Name("gateway"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, NoAppDescFormat: true, WrapUpperBound: 120}),
		kong.Exit(func(int) {
			helped = true
			panic(errHelped) // kong goes on parsing after help otherwise
		}),
	)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "gateway: %v\n", err)
		return exitFailure
	}
	command, err := parse(parser, args)
	if helped {
		return exitOK
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "gateway: %v\nRun \"gateway --help\" for the commands, \"gateway COMMAND --help\" for flags and examples.\n", err)
		return exitUsage
	}
	ctx, hurry, stop := signals()
	defer stop()
	err = command.Run(&invocation{ctx, hurry, env, stdin, stdout, stderr})
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "gateway: %v\n", err)
	var config *configError
	if errors.As(err, &config) {
		return exitUsage
	}
	return exitFailure
}

var errHelped = errors.New("help was shown")

func parse(parser *kong.Kong, args []string) (command *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil && r != errHelped {
			panic(r)
		}
	}()
	return parser.Parse(args)
}

// signals ends ctx at the first SIGINT or SIGTERM and closes hurry at the
// second; a third has its usual effect. stop gives the signals back.
func signals() (ctx context.Context, hurry <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan struct{})
	got := make(chan os.Signal, 2)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-got:
			cancel()
		case <-done:
			return
		}
		select {
		case <-got:
			signal.Stop(got)
			close(second)
		case <-done:
		}
	}()
	return ctx, second, func() {
		signal.Stop(got)
		close(done)
		cancel()
	}
}
