package main

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"pushgate/examples/visit"
)

func TestNotifications(t *testing.T) {
	var phones bytes.Buffer
	patience := time.Minute
	e := visit.Start(t, func(ctx context.Context, ready func(string)) error {
		return serve(ctx, "127.0.0.1:0", patience, &phones, ready)
	})
	alice := e.Login("alice", "")
	acked := make(chan struct{})
	go func() {
		defer close(acked)
		f := alice.Next("event")
		alice.Say(fmt.Sprintf(`{"type":"ack","cursor":%q}`, f.Cursor))
	}()
	if _, answer := e.Do("POST", "/notify/alice", "", "taxi"); answer != "{\"seen\":true}\n" {
		t.Errorf("alice, who looks: %s", answer)
	}
	<-acked
	if phones.Len() > 0 {
		t.Errorf("her phone rings as well: %s", phones.String())
	}
}

func TestNotificationsFallBack(t *testing.T) {
	var phones bytes.Buffer
	e := visit.Start(t, func(ctx context.Context, ready func(string)) error {
		return serve(ctx, "127.0.0.1:0", 300*time.Millisecond, &phones, ready)
	})
	alice := e.Login("alice", "") // is connected, and acknowledges nothing
	for _, user := range []string{"alice", "bob"} {
		if _, answer := e.Do("POST", "/notify/"+user, "", "taxi"); answer != "{\"seen\":false}\n" {
			t.Errorf("%s: %s", user, answer)
		}
	}
	if want := "push notification to alice's phone: taxi\npush notification to bob's phone: taxi\n"; phones.String() != want {
		t.Errorf("the phones got %q", phones.String())
	}
	if f := alice.Next("event"); string(f.Data) != `"taxi"` {
		t.Errorf("alice's page got %+v", f)
	}
}
