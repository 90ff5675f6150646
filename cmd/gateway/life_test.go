package main

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// aliceToken is a token of testSecret's issuer.
func aliceToken(changes ...string) string {
	return forge(hs256Header, payload(changes...), hs(testSecret))
}

// endsAt waits for the session's end, 4200, which must not come before exp and
// soon after it. Goroutines may call it.
func (c *wsClient) endsAt(exp time.Time) {
	c.tb.Helper()
	c.ended(4200, "expired")
	if late := time.Since(exp); late < 0 || late > endsWithin {
		c.tb.Errorf("closed %s after exp", late)
	}
}

// endsWithin is soon after exp: a second, and what a busy machine takes.
const endsWithin = 20 * time.Second

// inSeconds is a whole second, and the claim that says so.
func inSeconds(n int) (time.Time, string) {
	at := time.Unix(time.Now().Unix()+int64(n), 0)
	return at, fmt.Sprint("exp=", at.Unix())
}

// TestSessionsEndAtExp opens sessions all over a second: wherever the loops'
// own seconds begin, some are looked at just before their exp.
func TestSessionsEndAtExp(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	var reading sync.WaitGroup
	defer reading.Wait()
	pace := time.NewTicker(60 * time.Millisecond)
	defer pace.Stop()
	for range 20 {
		at, exp := inSeconds(3)
		c, welcome := g.dial(aliceToken(exp), "")
		if welcome["expires"] != at.UTC().Format(time.RFC3339) {
			t.Errorf("welcome says %v", welcome["expires"])
		}
		reading.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), comesWithin)
			defer cancel()
			_, b, err := c.Read(ctx)
			late := time.Since(at)
			if websocket.CloseStatus(err) != 4200 || late < 0 || late > endsWithin {
				t.Errorf("%s after exp: %s, %v", late, b, err)
			}
		})
		<-pace.C
	}
}

func TestRenewalsMoveTheEnd(t *testing.T) {
	t.Parallel()
	g := startGateway(t)
	// Time enough to renew until then, whatever else the machine does.
	at, exp := inSeconds(15)
	later, laterExp := inSeconds(18)
	long, _ := g.dial(aliceToken(exp), "")
	long.say("renew", "ref", "r1", "token", aliceToken(laterExp))
	long.expect(fmt.Sprintf(`{"type":"renewed","ref":"r1","expires":%q,"subjects":["user.alice","broadcast"]}`, later.UTC().Format(time.RFC3339)))
	short, _ := g.dial(aliceToken(), "")
	short.say("renew", "token", aliceToken(exp))
	short.expect(fmt.Sprintf(`{"type":"renewed","expires":%q,"subjects":["user.alice","broadcast"]}`, at.UTC().Format(time.RFC3339)))
	// A token within the leeway is let in, and its session ends at once.
	_, pastExp := inSeconds(-5)
	began := time.Now()
	late, _ := g.dial(aliceToken(pastExp), "")
	// Each is read as it comes: read one after the other, all would be late.
	var reading sync.WaitGroup
	for c, end := range map[*wsClient]time.Time{late: began, short: at, long: later} {
		reading.Go(func() { c.endsAt(end) })
	}
	reading.Wait()
	if n := g.metric(`pushgate_closes_total{reason="expired"}`); n != "3" {
		t.Errorf("%s sessions are counted as expired", n)
	}
	// Beyond the leeway it is not let in at all.
	if a := ask(t, g.addr, wsRequest("/v1/ws", bearerLine(aliceToken("exp="+unixIn(-31*time.Second))))); a.status != 401 {
		t.Errorf("a token beyond the leeway gets %d", a.status)
	}
}

func TestRenewalsOverTheWire(t *testing.T) {
	for _, interest := range []string{"wildcard", "exact"} {
		t.Run(interest, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, "GATEWAY_NATS_INTEREST="+interest, "GATEWAY_AUTH_AUDIENCE=push")
			token := func(changes ...string) string { return aliceToken(append([]string{`aud="push"`}, changes...)...) }
			at, exp := inSeconds(600)
			expires := at.UTC().Format(time.RFC3339)

			c, _ := g.dial(token(exp, `subscribe=["rooms.>","news.*"]`), "subject=news.1")
			for _, subject := range []string{"rooms.1", "rooms.2.>"} {
				c.say("subscribe", "ref", "s", "subject", subject)
				c.expect(fmt.Sprintf(`{"type":"subscribed","ref":"s","subject":%q}`, subject))
			}
			// Bad tokens change nothing.
			for name, bad := range map[string]string{
				"no token":        canary,
				"expired":         token("exp=" + unixIn(-time.Hour)),
				"for others":      aliceToken(`aud="others"`),
				"foreign":         forge(hs256Header, payload(`aud="push"`), junk),
				"with a bad sub":  token(`sub="a.b"`),
				"with bad grants": token(`subscribe="rooms.>"`),
			} {
				c.say("renew", "ref", name, "token", bad)
				if m := c.next(); m["type"] != "error" || m["ref"] != name || m["code"] != "forbidden" || m["message"] == "" || len(m) != 4 {
					t.Errorf("%s: %v", name, m)
				}
			}
			c.say("renew", "ref", "none")
			c.expect(`{"type":"error","ref":"none","code":"bad_request","message":"renew needs a token"}`)
			g.publish("push.rooms.1", "still here")
			if m := c.next(); m["data"] != "still here" {
				t.Errorf("got %v", m)
			}

			// Fewer grants: what they do not hold ends, and is said.
			c.say("renew", "ref", "fewer", "token", token(exp, `subscribe=["rooms.1"]`))
			c.expect(fmt.Sprintf(`{"type":"renewed","ref":"fewer","expires":%q,"subjects":["user.alice","broadcast","rooms.1"]}`, expires))
			lost := map[any]bool{}
			for range 2 {
				m := c.next()
				if _, hasRef := m["ref"]; m["type"] != "unsubscribed" || hasRef {
					t.Errorf("got %v", m)
				}
				lost[m["subject"]] = true
			}
			if !lost["news.1"] || !lost["rooms.2.>"] {
				t.Errorf("%v were lost", lost)
			}
			g.publish("push.rooms.2.x", "gone")
			g.publish("push.news.1", "gone")
			g.publish("push.rooms.1", "kept")
			if m := c.next(); m["data"] != "kept" {
				t.Errorf("got %v", m)
			}
			c.say("subscribe", "ref", "again", "subject", "news.1")
			c.expect(`{"type":"error","ref":"again","code":"forbidden","message":"your token does not grant this subject"}`)

			c.say("renew", "ref", "bob", "token", token(`sub="bob"`))
			c.ended(4002, "another user")
			if got := g.metric(`pushgate_closes_total{reason="other_user"}`); got != "1" {
				t.Errorf("%s closes", got)
			}
			for reason, want := range map[string]string{"malformed": "1", "expired": "1", "audience": "1", "bad_signature": "1", "bad_claim": "2"} {
				if got := g.metric(`pushgate_token_refusals_total{reason="` + reason + `"}`); got != want {
					t.Errorf("%s renewals are counted as %s, want %s", got, reason, want)
				}
			}
		})
	}
}

func TestSubscriptionsOverTheWire(t *testing.T) {
	for _, interest := range []string{"wildcard", "exact"} {
		t.Run(interest, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, "GATEWAY_NATS_INTEREST="+interest, "GATEWAY_LIMITS_SUBJECTS=6")
			c, welcome := g.dial(aliceToken(`subscribe=["rooms.>","*.lobby","!rooms.secret","!rooms.*.keys","!broadcast"]`), "subject=rooms.1.a")
			if got := fmt.Sprint(welcome["subjects"]); got != "[user.alice broadcast rooms.1.a]" {
				t.Errorf("begins with %s", got)
			}
			for _, step := range []struct{ kind, ref, subject, want string }{
				{"subscribe", "1", "rooms.1.*", "forbidden"}, // rooms.1.keys is in it
				{"subscribe", "2", "rooms.1.b", "subscribed"},
				{"subscribe", "3", "rooms.1.b", "subscribed"}, // it has it already
				{"subscribe", "4", "rooms.secret", "forbidden"},
				{"subscribe", "5", "rooms.*", "forbidden"},
				{"subscribe", "6", "rooms.>", "forbidden"},
				{"subscribe", "7", ">", "forbidden"},
				{"subscribe", "8", "user.*", "forbidden"},
				{"subscribe", "9", "*.*", "forbidden"},
				{"subscribe", "", "user.alice", "subscribed"},
				// Denied, though its token brings it: it is kept, and not had again.
				{"subscribe", "", "broadcast", "forbidden"},
				{"subscribe", "10", "*.lobby", "subscribed"},
				{"subscribe", "11", "rooms.lobby", "subscribed"},
				{"subscribe", "12", "rooms.2", "limit"},
				{"subscribe", "13", "rooms..2", "bad_request"},
				{"subscribe", "14", "", "bad_request"},
				{"unsubscribe", "15", "rooms.1.b", "unsubscribed"},
				{"unsubscribe", "16", "rooms.1.b", "bad_request"},
				{"unsubscribe", "17", "rooms.1.>", "bad_request"},
				{"subscribe", "18", "rooms.2", "subscribed"},
				{"ack", "19", "", "bad_request"},
				{"frobnicate", "20", "", "bad_request"},
			} {
				c.say(step.kind, "ref", step.ref, "subject", step.subject)
				m := c.next()
				want := map[string]any{"type": step.want, "subject": step.subject}
				if step.want != "subscribed" && step.want != "unsubscribed" {
					want = map[string]any{"type": "error", "code": step.want, "message": m["message"]}
					if m["message"] == "" || m["message"] == nil {
						t.Errorf("%+v: an error without a message", step)
					}
				}
				if step.ref != "" {
					want["ref"] = step.ref
				}
				if fmt.Sprint(m) != fmt.Sprint(want) {
					t.Errorf("%+v: got %v", step, m)
				}
			}
			// rooms.lobby is wanted by two subscriptions and comes once; so does
			// a flash event; what is not wanted does not come.
			for i, subject := range []string{
				"push.rooms.lobby", "flash.rooms.lobby", "push.x.lobby", "push.rooms.1.b", "push.rooms.secret", "push.rooms.1.keys", "push.rooms.1.a", "push.rooms.2", "push.broadcast",
			} {
				g.publish(subject, fmt.Sprint(i))
			}
			got := map[string]int{}
			for range 6 {
				m := c.next()
				got[fmt.Sprint(m["subject"], " ", m["data"])]++
			}
			want := map[string]int{"rooms.lobby 0": 1, "rooms.lobby 1": 1, "x.lobby 2": 1, "rooms.1.a 6": 1, "rooms.2 7": 1, "broadcast 8": 1}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			c.settled()
		})
	}
}
