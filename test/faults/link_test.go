//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"pushgate/test/servers"
)

// link stands between a gateway and NATS, and can be cut and made bad.
type link struct{ *toxiproxy.Proxy }

// newLink leads to an address for as long as the test.
func newLink(t *testing.T, to string) *link {
	t.Helper()
	// One of those that the system gives to connections may be somebody's when
	// the link is mended.
	port, err := servers.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	control := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{toxiproxy.NewProxy(control, t.Name(), fmt.Sprintf("127.0.0.1:%d", port), to)}
	l.mend(t)
	t.Cleanup(l.Stop)
	return l
}

func (l *link) url() string { return "nats://" + l.Listen }

// mend lets connections through, again at the same address.
func (l *link) mend(t *testing.T) {
	t.Helper()
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
}

// poison makes the link bad in one way, on the way to the gateway or from it.
func (l *link) poison(t *testing.T, kind, stream string, attributes map[string]any) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"type": kind, "stream": stream, "attributes": attributes})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Toxics.AddToxicJson(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}

// heal makes it good again.
func (l *link) heal() { l.Toxics.ResetToxics(context.Background()) }
