package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"testing"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// renewAll has one live session try every refused token of the gateway "one" as
// a renewal: each gets its error, each is counted as a handshake's would be,
// and the session stays until it is renewed as somebody else.
func (s *siege) renewAll(t *testing.T, all []attempt) {
	g := s.gates["one"]
	c, _ := g.dial(forge(hs256Header, onePayload(), hs(testSecret)), "")
	want := s.tally("one")
	tried := 0
	for _, a := range all {
		// What is no text, or larger than a message may be, is another matter.
		if a.gate != "one" || a.token == "" || a.status == http.StatusSwitchingProtocols || len(a.token) > 3<<10 || !utf8.ValidString(a.token) {
			continue
		}
		tried++
		want.reasons[a.reason]++
		c.say("renew", "ref", "r", "token", a.token)
		frame, err := c.raw()
		s.heard.WriteString(frame)
		var m map[string]any
		if err == nil {
			err = json.Unmarshal([]byte(frame), &m)
		}
		if err != nil || m["type"] != "error" || m["ref"] != "r" || m["code"] != "forbidden" || len(m) != 4 {
			t.Errorf("renewing with %s: %q, %v", a.name, frame, err)
		}
	}
	c.settled()
	if now := s.tally("one"); !maps.Equal(now.reasons, want.reasons) {
		t.Errorf("refused tokens are %v, want %v", now.reasons, want.reasons)
	}
	if tried < 100 {
		t.Errorf("only %d renewals were tried", tried)
	}
	c.say("renew", "token", forge(hs256Header, onePayload(`sub="bob"`), hs(testSecret)))
	_, err := c.raw()
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != 4002 {
		t.Errorf("renewed as somebody else: %v", err)
	}
	s.heard.WriteString(closed.Reason)
}

// raw reads one message as it came.
func (c *wsClient) raw() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
	defer cancel()
	_, b, err := c.Read(ctx)
	return string(b), err
}
