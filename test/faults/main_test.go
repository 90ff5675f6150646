//go:build linux

// Package faults breaks what a gateway lives on, with real parts: nats-server
// processes, links that toxiproxy cuts and slows, client processes that are
// stopped, memory limits of the kernel. Whatever happens, no session is closed
// because NATS blinked, nothing stored is lost, and who behaves does not notice
// who does not.
//
// What the servers are is built once, without the race detector, as production
// has it. "make soak" runs the long forms.
package faults

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"pushgate/test/servers"
)

var (
	away = flag.Duration("away", 8*time.Second, "how long NATS is away in the test of a long absence")
	cuts = flag.Int("cuts", 12, "how often the connection to NATS is cut half-way")
)

// patience bounds whatever a test waits for: machines may be slow.
const patience = 5 * time.Minute

// programs are the servers, built for this run.
var programs *servers.Binaries

func TestMain(m *testing.M) {
	flag.Parse()
	if addr := os.Getenv(crowdAddr); addr != "" {
		os.Exit(crowd(addr)) // this is a client's process
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if programs, err = servers.Build(ctx, dir); err != nil {
		return fail(err)
	}
	return m.Run()
}

func fail(err error) int {
	_, _ = fmt.Fprintln(os.Stderr, err)
	return 1
}
