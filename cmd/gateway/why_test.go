package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"pushgate/api"
)

// asked is what one gateway answers to a request, which must be no error.
func (r *running) asked(subject, request string, into any) {
	r.tb.Helper()
	m, err := r.nats.Request(subject, []byte(request), comesWithin)
	if err != nil {
		r.tb.Fatal(err)
	}
	if text := m.Header.Get("Nats-Service-Error"); text != "" {
		r.tb.Fatalf("%s %s: %s", subject, request, text)
	}
	if err := json.Unmarshal(m.Data, into); err != nil {
		r.tb.Fatalf("%s %s: %s", subject, request, m.Data)
	}
}

func (r *running) why(user, id string) api.Why {
	r.tb.Helper()
	request := fmt.Sprintf(`{"user":%q}`, user)
	if id != "" {
		request = fmt.Sprintf(`{"user":%q,"id":%q}`, user, id)
	}
	var why api.Why
	r.asked("pushgate.control.why", request, &why)
	if why.Gateway == "" || why.User != user || why.ID != id || why.Verdict == "" {
		r.tb.Errorf("%s: %+v", request, why)
	}
	return why
}

// verdict waits for the cause: the gateway may still be at it.
func (r *running) verdict(user, id string, want ...string) {
	r.tb.Helper()
	var last api.Why
	holds := func() bool {
		last = r.why(user, id)
		for _, part := range want {
			if !strings.Contains(last.Verdict, part) {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(comesWithin); !holds(); {
		if time.Now().After(end) {
			r.tb.Fatalf("why %s %s: %q has not all of %q; history %+v", user, id, last.Verdict, want, last.History)
		}
		pause := time.NewTimer(20 * time.Millisecond)
		<-pause.C
	}
	r.tb.Logf("%s %s: %s", user, id, last.Verdict)
}

// event publishes with headers, as "Nats-Msg-Id: m-1".
func (r *running) event(subject, data string, headers ...string) {
	r.tb.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(data)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		m.Header.Set(name, value)
	}
	if err := r.nats.PublishMsg(m); err != nil {
		r.tb.Fatal(err)
	}
	if err := r.nats.Flush(); err != nil {
		r.tb.Fatal(err)
	}
}

func TestWhy(t *testing.T) {
	g := startDurable(t, startJetStream(t), "GATEWAY_LIMITS_EVENT_BYTES=64KiB")
	alice, _ := g.dial(g.token("alice"), "device=phone")

	t.Run("no such user", func(t *testing.T) {
		g.event("flash.user.nobody", "1", "Nats-Msg-Id: n-1")
		g.verdict("nobody", "", "nobody has no session here")
		g.verdict("nobody", "n-1", "n-1 came at", "nobody has no session here")
		if why := g.why("nobody", ""); why.Online || len(why.Sessions) > 0 {
			t.Errorf("got %+v", why)
		}
	})
	t.Run("never published", func(t *testing.T) {
		g.verdict("alice", "m-404", "m-404 was not seen by this gateway since", "never published")
	})
	t.Run("no subscription", func(t *testing.T) {
		g.event("flash.user.alice", "1") // without an id, it is no other event
		alice.data(1)
		g.event("flash.rooms.9", "1", "Nats-Msg-Id: r-9")
		g.verdict("alice", "r-9", "alice has no subscription that takes it, only broadcast, user.alice")
	})
	t.Run("no grant", func(t *testing.T) {
		if a := ask(t, g.addr, wsRequest("/v1/ws?subject=rooms.7", bearerLine(g.token("carol")))); a.code != "forbidden" {
			t.Errorf("got %+v", a)
		}
		g.verdict("carol", "", "a handshake was refused at", "its token does not grant rooms.7")
		g.event("flash.rooms.7", "1", "Nats-Msg-Id: r-7")
		g.verdict("carol", "r-7", "its token does not grant rooms.7")
		alice.say("subscribe", "ref", "1", "subject", "rooms.7")
		if m := alice.next(); m["code"] != "forbidden" {
			t.Errorf("got %v", m)
		}
		g.verdict("alice", "r-7", "alice's token does not grant rooms.7: a subscribe was refused at")
	})
	t.Run("too large", func(t *testing.T) {
		g.event("flash.user.alice", strings.Repeat("x", 70<<10), "Nats-Msg-Id: big")
		g.verdict("alice", "big", "larger than limits.event_bytes")
	})
	t.Run("expired", func(t *testing.T) {
		g.event("flash.user.alice", "1", "Nats-Msg-Id: t-1", "Push-TTL: 1ns")
		g.verdict("alice", "t-1", "its Push-TTL was over")
	})
	t.Run("delivered, and acknowledged", func(t *testing.T) {
		g.event("push.user.alice", "1", "Nats-Msg-Id: m-1")
		m := alice.next()
		g.verdict("alice", "m-1", "m-1 was given to alice at", "has not acknowledged it")
		cursor, _ := m["cursor"].(string)
		alice.say("ack", "cursor", cursor)
		g.verdict("alice", "m-1", "m-1 was given to alice at", "has acknowledged it")
		var said []string
		for _, h := range g.why("alice", "m-1").History {
			said = append(said, h.What)
		}
		if got := strings.Join(said, " "); !strings.Contains(got, "opened") || !strings.Contains(got, "seen queued acknowledged") {
			t.Errorf("the history is %s", got)
		}
	})
	t.Run("before it was there", func(t *testing.T) {
		g.event("push.user.late", "1", "Nats-Msg-Id: l-1")
		g.verdict("late", "l-1", "late has no session here")
		late := g.connect("late")
		g.verdict("late", "l-1", "late has connected since then")
		_ = late.CloseNow()
		g.verdict("late", "l-1", "late has no session here: the last one ended at", "(lost)")
	})
	t.Run("disconnected", func(t *testing.T) {
		dora := g.connect("dora")
		g.control("disconnect", `{"user":"dora"}`, 1)
		dora.ended(4000, "disconnected")
		g.verdict("dora", "", "the last one ended at", "(disconnected)")
	})
	t.Run("collapsed, and a slow consumer", func(t *testing.T) { whySlow(t, g) })
}

// whySlow asks about a client that stops reading.
func whySlow(t *testing.T, g *running) {
	conn, err := net.Dial("tcp", g.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// It answers no ping, and is not to be found by that.
	if _, err := io.WriteString(conn, wsRequest("/v1/ws?heartbeat=15m", bearerLine(g.token("sloth")))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "sloth is here", func() bool { return g.why("sloth", "").Online })
	n := 0
	fill := func() {
		n++
		g.event("flash.user.sloth", strings.Repeat("x", 32<<10), "Nats-Msg-Id: s-"+strconv.Itoa(n))
	}
	waiting := func() int {
		if all := g.why("sloth", "").Sessions; len(all) == 1 {
			return all[0].Waiting
		}
		return 0
	}
	// A socket that is full may take a little more later: what waits is looked
	// for again with something new, until it does wait.
	eventually(t, "bytes wait for the client to read", func() bool {
		if waiting() == 0 {
			if fill(); n > 1000 {
				t.Fatal("its socket takes everything")
			}
			return false
		}
		return strings.Contains(g.why("sloth", "s-"+strconv.Itoa(n)).Verdict, "bytes still wait for the client to read")
	})
	states := 0
	state := func() (id string) {
		states++
		id = "c-" + strconv.Itoa(states)
		g.event("flash.user.sloth", "state", "Nats-Msg-Id: "+id, "Push-Collapse: state")
		return id
	}
	eventually(t, "a state is replaced by a newer one", func() bool {
		older, newer := state(), state()
		g.verdict("sloth", newer, newer+" was given to sloth at")
		v := g.why("sloth", older).Verdict
		if strings.Contains(v, "was replaced at") && strings.Contains(v, "by a newer event with the same Push-Collapse") {
			return true
		}
		t.Logf("its socket took some more: %s", v)
		if fill(); n > 1000 {
			t.Fatal("its socket takes everything")
		}
		return false
	})
	for g.why("sloth", "").Online {
		if fill(); n > 1000 {
			t.Fatal("it is never too slow")
		}
	}
	g.verdict("sloth", "s-"+strconv.Itoa(n), "slow consumer")
	fill()
	g.verdict("sloth", "s-"+strconv.Itoa(n), "sloth has no session here: the last one ended at", "(slow consumer)")
}

// TestWhyNATSWasAway: what was published while NATS was away was never seen.
func TestWhyNATSWasAway(t *testing.T) {
	port := heldAddr(t).Port
	s := startServerWith(t, server.Options{Port: port})
	g := setup{nats: s}.start(t)
	g.connect("alice")
	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "the gateway notices", func() bool { return g.metric("pushgate_nats_connected") == "0" })
	startServerWith(t, server.Options{Port: port})
	eventually(t, "NATS is back", func() bool { return g.metric("pushgate_nats_connected") == "1" })
	if err := g.bus.Flush(comesWithin); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the asker is back", g.nats.IsConnected)
	g.verdict("alice", "m-1", "m-1 was not seen by this gateway since", "NATS was away from")
	g.verdict("alice", "", "alice is here with one session", "NATS was away from")
}

// TestWhyBroadcast: of a broadcast to more than a slice one record is kept.
func TestWhyBroadcast(t *testing.T) {
	g := startGateway(t, "GATEWAY_LOOPS=1")
	for i := range 140 {
		g.connect("u" + strconv.Itoa(i))
	}
	g.event("flash.broadcast", "1", "Nats-Msg-Id: b-1")
	g.verdict("u7", "b-1", "b-1 went to 140 sessions at", "u7 has one that takes broadcast")
	for _, h := range g.why("u7", "b-1").History {
		if h.What == "queued" {
			t.Errorf("there is %+v", h)
		}
	}
}

// TestWhyIsBounded: the recorder forgets, says so, and can be off.
func TestWhyIsBounded(t *testing.T) {
	g := startGateway(t, "GATEWAY_FLIGHT_EVENTS=64", "GATEWAY_LOOPS=1")
	alice := g.connect("alice")
	for i := range 100 {
		g.event("flash.user.alice", "1", "Nats-Msg-Id: m-"+strconv.Itoa(i))
		alice.next()
	}
	g.verdict("alice", "m-0", "m-0 was not seen by this gateway since", "or came before that")
	g.verdict("alice", "m-99", "m-99 was given to alice")
	if why := g.why("alice", ""); len(why.History) > 64 || !why.Since.After(time.Now().Add(-time.Hour)) {
		t.Errorf("%d happenings since %s", len(why.History), why.Since)
	}
	off := startGateway(t, "GATEWAY_FLIGHT_EVENTS=0")
	off.connect("alice")
	off.verdict("alice", "m-1", "keeps no record: flight.events is 0")
}
