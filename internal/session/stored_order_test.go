package session

import (
	"fmt"
	"testing"
	"time"

	"pushgate/api"
)

// hold keeps a loop busy, runs what is given meanwhile, and then then on the
// loop, before any event that came.
func (a *archive) hold(t *testing.T, meanwhile func(), then func(l *loop)) {
	t.Helper()
	l := a.hub.loops[0]
	busy, release := make(chan struct{}), make(chan struct{})
	l.post(message{do: func(l *loop) {
		close(busy)
		<-release
		if then != nil {
			then(l)
		}
	}})
	<-busy
	meanwhile()
	close(release)
}

// only is the loop's single session.
func (l *loop) only() (uint32, *slot) {
	for id := uint32(1); id < l.slots.top; id++ {
		if s := l.slots.at(id); s.state == stateOpen {
			return id, s
		}
	}
	panic("there is no session")
}

func one(c *Config) { c.Loops = 1 }

// sequence reads events up to the stream's end and checks that they are these,
// in order.
func (a *archive) sequence(t *testing.T, c *client, want ...uint64) {
	t.Helper()
	a.mu.Lock()
	end := uint64(len(a.events))
	a.mu.Unlock()
	c.say(`{"type":"ping","ref":"end"}`)
	var got []uint64
	for {
		m := c.next()
		switch m["type"] {
		case "event":
			at, _ := api.ParseCursor(m["cursor"].(string))
			got = append(got, at.Seq)
		case "pong":
			if at, _ := api.ParseCursor(m["cursor"].(string)); at.Seq < end {
				c.say(`{"type":"ping","ref":"end"}`)
				continue
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", got, want)
			}
			return
		}
	}
}

// Who gets a broadcast late, because others are served first, gets what comes
// behind it in the stream later still: its newest cursor never claims too much.
func TestStoredOrder(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.Loops, c.Heartbeat = 1, time.Hour }) // the first are not read until all are there
	const n = 3*sliceSize + 16
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = a.join(t, grant(t, map[string]any{"sub": fmt.Sprint("u", i), "teams": []string{"red", "blue"}}), "")
	}
	for round := range 2 {
		var all []string
		for i := range 4 * n {
			switch {
			case i%97 == 5:
				all = append(all, "broadcast")
			case i%101 == 7:
				all = append(all, "team.red")
			case i%103 == 9:
				all = append(all, "team.blue", "broadcast")
			default:
				all = append(all, fmt.Sprint("user.u", (i*7+round)%n))
			}
		}
		began := uint64(len(a.events))
		// In pieces: what is held back decides which piece meets which slice.
		for len(all) > 0 {
			k := min(len(all), 1+len(all)%200)
			a.publish(all[:k]...)
			all = all[k:]
		}
		for i, c := range clients {
			want := a.want(began, fmt.Sprint("user.u", i), "team.red", "team.blue", "broadcast")
			if got := c.events(len(want)); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("client %d got %v, want %v", i, got, want)
			}
		}
	}
}

// An event that two subscriptions bring, of which one is being replayed, comes
// once, whoever of them brings it.
func TestReplayOverlapsLive(t *testing.T) {
	a := storedHub(t, one)
	c := a.join(t, grant(t, may("rooms.*")), "subject=rooms.1")
	a.publish("rooms.1")
	c.events(1)
	a.hold(t, func() { a.publish("rooms.1") }, func(l *loop) {
		id, s := l.only()
		l.control(id, s, []byte(`{"type":"subscribe","ref":"1","subject":"rooms.*","cursor":"s1.1"}`))
	})
	a.sequence(t, c, 2)
}

// What the loop took from the ring, because its mailbox was full, does not come
// again with the batch that was under way.
func TestCaughtUpOnce(t *testing.T) {
	a := storedHub(t, one)
	c := a.join(t, grant(t, nil), "")
	l := a.hub.loops[0]
	l.box.limit = 10 * deliveryCost
	a.hold(t, func() {
		for range 30 {
			a.publish("user.alice")
		}
		// The first half of a Deliver: in the ring, not yet with the loops.
		a.hub.give(&api.Event{Subject: "user.alice", Seq: 31, Cursor: "s1.31", Time: time.Now(), Data: []byte("31")}, time.Now())
	}, nil)
	c.events(31)
	eventually(t, "the loop enters what is under way", func() bool { return l.enter(a.hub.batches[0]) })
	a.sequence(t, c)
}

// The cursor of a replay of one subject is where the whole session is through.
func TestReplayedSubjectsCursor(t *testing.T) {
	a := storedHub(t, one)
	c := a.join(t, grant(t, may("rooms.*")), "")
	a.hold(t, func() { a.publish("user.alice") }, func(l *loop) {
		id, s := l.only()
		l.control(id, s, []byte(`{"type":"subscribe","ref":"1","subject":"rooms.1","from":"start"}`))
	})
	for {
		if m := c.next(); m["type"] == "resumed" {
			if m["cursor"] != "s1.0" {
				t.Errorf("resumed at %v while event 1 is to come", m["cursor"])
			}
			break
		}
	}
	c.events(1)
}

// What a session was given from the ring it has, also while the loop has yet to
// come to it: its place never goes back, or its client would ask for it again.
func TestPlaceNeverGoesBack(t *testing.T) {
	a := storedHub(t, one)
	c := a.join(t, grant(t, nil), "")
	poll, token := a.hub.connect(t), grant(t, map[string]any{"sub": "bob"})
	poll.write(eventsHead("?cursor=s1.0&wait=50s", token))
	eventually(t, "it is parked", func() bool { return a.hub.Stats().Transports["poll"] == 1 })
	a.hold(t, func() { a.publish("user.alice", "user.carol") }, func(l *loop) {
		for id := uint32(1); id < l.slots.top; id++ {
			switch s := l.slots.at(id); s.transport() {
			case transportWebSocket:
				l.resume(id, s, "s1.0")
				l.control(id, s, []byte(`{"type":"ping"}`))
			case transportPoll: // as one that came just now
				l.addSkip(id, s, skip{seq: 2, tick: l.tick})
				l.timeUp(id, s)
			}
		}
	})
	c.events(1)
	for _, want := range []string{"resumed", "pong"} {
		if m := c.next(); m["type"] != want || m["cursor"] != "s1.2" {
			t.Errorf("told %v", m)
		}
	}
	if _, p := poll.pollAnswer(); p.Cursor != "s1.2" || len(p.Events) != 0 {
		t.Errorf("polled %+v", p)
	}
	a.publish("user.alice")
	a.sequence(t, c, 3)
}

// Nothing of an old stream holds back what a new one brings, or names a place
// in it.
func TestNewStreamForgetsPlaces(t *testing.T) {
	a := storedHub(t, one)
	for range 10 {
		a.publish("user.alice")
	}
	c := a.join(t, grant(t, nil), "device=phone")
	a.hold(t, func() {
		a.publish("user.alice")
		a.hub.Stream(api.Position{Stream: "s2"}, 0)
	}, func(l *loop) {
		l.through()
		id, s := l.only()
		l.addSkip(id, s, skip{seq: 11, tick: l.tick}) // as who joins now gets it
		if at := l.cursor(id, s); at != "s1.11" {
			t.Errorf("the place before the new stream is %s", at)
		}
	})
	if m := c.next(); m["type"] != "resumed" || m["complete"] != false || m["cursor"] != "s2.0" {
		t.Errorf("told %v", m)
	}
	a.mu.Lock()
	a.id, a.events = "s2", nil
	a.mu.Unlock()
	a.publish("user.alice", "user.alice")
	a.sequence(t, c, 1, 2)
}

// A place of another gateway that this one does not come to is given up, with a
// word, also for one subject.
func TestAheadOfTheStream(t *testing.T) {
	clock := newStillClock()
	a := storedHub(t, func(c *Config) { c.Loops, c.Now = 1, clock.now })
	a.publish("rooms.1")
	c := a.join(t, grant(t, may("rooms.*")), "")
	c.say(`{"type":"subscribe","ref":"1","subject":"rooms.1","cursor":"s1.100"}`)
	c.expect("", "subscribed rooms.1 1")
	if m := c.next(); m["type"] != "resumed" || m["complete"] != true {
		t.Errorf("told %v", m)
	}
	clock.move(a.hub, aheadTicks*time.Second)
	c.expect(`{"type":"ping","ref":"2"}`, "pong 2") // it may yet come
	clock.move(a.hub, time.Second)
	if m := c.next(); m["type"] != "resumed" || m["ref"] != "1" || m["complete"] != false {
		t.Errorf("told %v", m)
	}
	a.publish("rooms.1")
	a.sequence(t, c, 2)
}

// A client that comes back and asks for a subject's past as well gets each
// event once.
func TestBothReplays(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.Loops, c.RingBytes = 1, 10<<10 })
	for range 100 {
		a.publish("rooms.1", "user.alice", "x.y")
	}
	c := a.join(t, grant(t, may("rooms.*")), "cursor=s1.0")
	c.say(`{"type":"subscribe","ref":"1","subject":"rooms.1","cursor":"s1.0"}`)
	got := map[string]int{}
	for {
		m := c.next()
		if m["type"] == "event" {
			got[fmt.Sprint(m["subject"], " ", m["replay"] == true)]++
		}
		if m["type"] == "resumed" && m["ref"] == "1" {
			break
		}
	}
	if got["rooms.1 true"] != 100 || got["rooms.1 false"] != 0 || got["user.alice false"] != 100 {
		t.Errorf("got %v", got)
	}
}

// What is too large to be sent as it comes is not sent from history either.
func TestHistoryKeepsLimits(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.Loops, c.RingBytes = 1, 2000 })
	large := append(append([]byte{'"'}, make([]byte, a.hub.cfg.EventBytes)...), '"')
	for i := range large[1 : len(large)-1] {
		large[1+i] = 'x'
	}
	a.events = append(a.events, api.Event{Subject: "user.alice", Seq: 1, Cursor: "s1.1", Time: time.Now(), Data: large})
	a.lose(t, 1)
	a.publish("user.alice")
	c := a.join(t, grant(t, nil), "cursor=s1.0")
	a.sequence(t, c, 2)
	if n := a.hub.drops[DropTooLarge].Load(); n != 1 {
		t.Errorf("%d were counted as too large", n)
	}
}

// A session that was let in before its gateway knew the stream is not given the
// past that the ring is filled with, as if it were new. Some of that may have come
// since its welcome: it is told so.
func TestStreamFoundLate(t *testing.T) {
	a := &archive{id: "s1", first: 1}
	h, _ := tokenHub(t, func(c *Config) { c.Loops, c.History, c.RingBytes = 1, a, 1<<20 })
	a.hub = h
	early := a.join(t, grant(t, nil), "")
	early.expect(`{"type":"ping"}`, "pong")
	h.Stream(api.Position{Stream: "s1"}, 3)
	if m := early.next(); m["type"] != "resumed" || m["complete"] != false || m["cursor"] != "s1.3" {
		t.Errorf("told %v", m)
	}
	a.publish("user.alice")
	late := a.join(t, grant(t, nil), "")
	a.publish("user.alice", "user.alice")
	a.publish("user.alice")
	a.sequence(t, early, 4)
	a.sequence(t, late, 4)
}
