//go:build linux

package faults

import (
	"context"
	"errors"

	"net"
	"testing"
)

// TestDescriptorsRunOut lets more clients come than the process may have files,
// with a limit of sessions that does not protect it. They are told so, those
// who are in stay, and when some have left there is room again.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	g := newGateway(t, n.URL(), append([]string{"GATEWAY_LIMITS_SESSIONS=100000"}, durable...)...)
	g.Args = append([]string{"-c", `ulimit -n 200 && exec "$0" "$@"`, g.Path}, g.Args...)
	g.Path = "/bin/sh"
	start(t, &g.Process)
	g.follows(t)
	b := newBackend(t, n.URL())
	alice := connect(t, g.Addr, "alice")
	token := token(t, "many")
	var in []net.Conn
	refused := 0
	for range 300 {
		conn, err := rawDial(g.Addr, token)
		var no *refusedError
		switch {
		case err == nil:
			in = append(in, conn)
			defer func() { _ = conn.Close() }()
		case errors.As(err, &no) && no.polite():
			refused++
		default:
			t.Fatalf("client %d: %v", len(in)+refused, err)
		}
	}
	if len(in) < 100 || refused < 100 {
		t.Errorf("%d got in, %d were refused", len(in), refused)
	}
	b.store(t, "alice", 20)
	alice.has(t, 20)
	for _, conn := range in[:50] {
		_ = conn.Close()
	}
	eventually(t, "there is room again", func(context.Context) bool {
		conn, err := rawDial(g.Addr, token)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if n := g.metric(t, `pushgate_handshakes_total{result="descriptors"}`); n == 0 {
		t.Error("no handshake was refused for want of a descriptor")
	}
	if up := g.metric(t, "pushgate_nats_reconnects_total"); up != 0 {
		t.Errorf("the connection to NATS was lost %v times", up)
	}
	b.store(t, "alice", 20)
	alice.has(t, 40)
}
