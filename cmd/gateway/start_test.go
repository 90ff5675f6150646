package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"
)

// TestNobodyBeforeTheStream: clients that come back to a gateway while it
// starts have no session before it knows the stream. Nobody is told that
// history is gone, and every session has a place.
func TestNobodyBeforeTheStream(t *testing.T) {
	startPatiently(t)
	s := startJetStream(t)
	one := startDurable(t, s)
	token := one.token("alice")
	c, welcome := one.comeBack(token, "")
	cursor, _ := welcome["cursor"].(string)
	_ = c.CloseNow()
	const events = 5_000 // which a gateway that starts has to read first
	js, err := one.nats.JetStream(nats.PublishAsyncMaxPending(events))
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if _, err := js.PublishAsync("push.user.alice", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(2 * comesWithin):
		t.Fatal("the events are not stored")
	}
	for _, query := range []string{"", "cursor=" + cursor} {
		addr := heldAddr(t).String()
		found := make(chan string, 1)
		var dialing sync.WaitGroup
		dialing.Go(func() { found <- firstWords(addr, token, query) })
		startDurable(t, s, "GATEWAY_LISTEN="+addr)
		dialing.Wait()
		if said := <-found; said != "" {
			t.Errorf("with %q: %s", query, said)
		}
	}
}

// firstWords dials until it is let in, and says what is wrong with what it gets.
func firstWords(addr, token, query string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*comesWithin)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond) // the processors are for the gateway
	defer again.Stop()
	for ; ctx.Err() == nil; <-again.C {
		conn, _, err := websocket.Dial(ctx, "ws://"+addr+"/v1/ws?"+query, &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
		})
		if err != nil {
			continue // nobody listens yet
		}
		defer func() { _ = conn.CloseNow() }()
		_, welcome, err := conn.Read(ctx)
		if err != nil {
			return err.Error()
		}
		if query == "" {
			if !bytes.Contains(welcome, []byte(`"cursor":"`)) {
				return fmt.Sprintf("the welcome has no place: %s", welcome)
			}
			return ""
		}
		for {
			_, next, err := conn.Read(ctx)
			switch {
			case err == nil && bytes.Contains(next, []byte(`"complete":true`)):
				// A gateway that could not wait any longer gives as new what it
				// has not read yet.
			case err != nil || !bytes.Contains(next, []byte(`"type":"event"`)):
				return fmt.Sprintf("the replay begins with %s, %v", next, err)
			default:
				return ""
			}
		}
	}
	return "nobody is let in"
}
