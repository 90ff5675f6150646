package main

import (
	"context"
	"net/http"
	"testing"

	"pushgate/examples/visit"
)

func TestChat(t *testing.T) {
	e := visit.Start(t, func(ctx context.Context, ready func(string)) error { return serve(ctx, "127.0.0.1:0", ready) })
	if status, _ := e.Do("GET", "/", "", ""); status != http.StatusOK {
		t.Errorf("the page: %d", status)
	}
	alice, bob := e.Login("alice", "subject=rooms.lobby&subject=rooms.staff"), e.Login("bob", "subject=rooms.lobby&subject=rooms.staff")
	carol := e.Login("carol", "subject=rooms.lobby")

	carol.Say(`{"type":"subscribe","ref":"1","subject":"rooms.staff"}`)
	carol.Next("error") // the token does not grant it
	for _, tc := range []struct {
		path, token, body string
		status            int
	}{
		{"/rooms/staff", alice.Token, `"between us"`, http.StatusAccepted},
		{"/rooms/lobby", alice.Token, `"hello"`, http.StatusAccepted},
		{"/rooms/staff", carol.Token, `"let me in"`, http.StatusForbidden},
		{"/rooms/lobby", "", `"who am I"`, http.StatusUnauthorized},
		{"/rooms/lobby", alice.Token + "x", `"forged"`, http.StatusUnauthorized},
		{"/rooms/lobby", bob.Token, `no JSON`, http.StatusBadRequest},
	} {
		if status, answer := e.Do("POST", tc.path, tc.token, tc.body); status != tc.status {
			t.Errorf("%s %s: %d %s", tc.path, tc.body, status, answer)
		}
	}
	if f := bob.Next("event"); f.Subject != "rooms.staff" || string(f.Data) != `{"from":"alice","text":"between us"}` {
		t.Errorf("bob gets %+v", f)
	}
	if f := carol.Next("event"); f.Subject != "rooms.lobby" || string(f.Data) != `{"from":"alice","text":"hello"}` {
		t.Errorf("carol gets %+v", f)
	}
}
