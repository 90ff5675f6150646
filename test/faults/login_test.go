//go:build linux

package faults

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pushgate/test/servers"
)

// configured starts a server that reads a file, which reconfigure changes.
func configured(t *testing.T, config string) (n *servers.NATS, reconfigure func(string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	write := func(config string) {
		// The name that the command line gives must not change.
		if err := os.WriteFile(file, []byte("server_name: n1\n"+config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(config)
	n = startNATS(t, "-c", file)
	return n, func(config string) {
		t.Helper()
		write(config)
		if err := n.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPermissions has NATS take the gateway, and not its subscription: the log
// says which.
func TestPermissions(t *testing.T) {
	t.Parallel()
	n, _ := configured(t, `authorization { users: [
		{ user: gw, password: pw, permissions: { subscribe: { deny: ["flash.>", "push.>"] } } } ] }`)
	g := newGateway(t, n.URL(), "GATEWAY_NATS_USER=gw", "GATEWAY_NATS_PASSWORD=pw")
	g.Ready = g.alive
	start(t, &g.Process)
	for _, subject := range []string{"push.>", "flash.>"} {
		eventually(t, "the log names "+subject, func(context.Context) bool {
			for line := range strings.Lines(g.logged(t)) {
				if strings.Contains(line, subject) && strings.Contains(strings.ToLower(line), "permissions violation") {
					return true
				}
			}
			return false
		})
	}
}
