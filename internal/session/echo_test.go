//go:build echotest

package session

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestEcho: messages of both types come back as they were, whole, in order.
func TestEcho(t *testing.T) {
	h := startHub(t, func(c *Config) { c.MessageBytes = 32 << 20 })
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+h.addr+"/v1/ws?echo=1", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer alice"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(-1)
	for _, m := range []struct {
		typ  websocket.MessageType
		data string
	}{
		{websocket.MessageText, ""}, {websocket.MessageText, "häh"}, {websocket.MessageBinary, "\xff\x00"},
		{websocket.MessageText, strings.Repeat("x", 1<<20)}, {websocket.MessageBinary, strings.Repeat("\xfe", 5<<20)},
	} {
		sent := make(chan error, 1)
		go func() { sent <- conn.Write(ctx, m.typ, []byte(m.data)) }()
		typ, got, err := conn.Read(ctx)
		if err != nil || typ != m.typ || !bytes.Equal(got, []byte(m.data)) {
			t.Fatalf("%d bytes of type %d come back for %d of %d: %v", len(got), typ, len(m.data), m.typ, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}
