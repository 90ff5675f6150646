package session

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"pushgate/api"
)

// TestMemoryIsReckoned holds what a loop says that its sessions take against
// what the heap grew by.
func TestMemoryIsReckoned(t *testing.T) {
	const n = 100_000
	h := newBareHub(t, 2)
	expires := time.Now().Add(time.Hour).Unix()
	type place struct{ loop, id uint32 }
	places := make([]place, n)
	before := heapInUse()
	for i := range places {
		l, id := enrollUser(h, fmt.Sprintf("u%07d", i), expires)
		places[i] = place{uint32(l.number), id}
	}
	grown := float64(heapInUse() - before)
	reckoned := func() (bytes int64) {
		for _, l := range h.loops {
			bytes += l.memory()
		}
		return bytes
	}
	full := reckoned()
	t.Logf("%d bytes a session are reckoned, the heap grew by %.0f", full/n, grown/n)
	if r := float64(full) / grown; r < 0.75 || r > 1.25 {
		t.Errorf("%d bytes are reckoned, the heap grew by %.0f", full, grown)
	}
	for _, p := range places {
		h.loops[p.loop].forget(p.id)
	}
	for _, l := range h.loops {
		lists := int64(0)
		for i := range l.subjects.lists {
			lists += 4 * int64(cap(l.subjects.lists[i].ids))
		}
		if l.subjects.idBytes != lists {
			t.Errorf("lists are said to take %d bytes and take %d", l.subjects.idBytes, lists)
		}
	}
	// What is free is used again, and the lists of many are gone.
	if now := reckoned(); now >= full {
		t.Errorf("%d bytes are reckoned of no sessions, %d of %d", now, full, n)
	}
	runtime.KeepAlive(places)
}

func TestLagIsForgotten(t *testing.T) {
	h := newBareHub(t, 1)
	l := h.loops[0]
	said := func(tick uint16) time.Duration {
		l.tick = tick
		l.measure()
		return time.Duration(l.stats.lag.Load())
	}
	l.lag = lag{since: 100}
	busy := l.stats.busy.Load()
	l.worked(time.Now().Add(-time.Minute))
	l.worked(time.Now())
	if got := said(101); got < time.Minute {
		t.Errorf("a turn of a minute is a lag of %v", got)
	}
	if got := l.stats.busy.Load() - busy; got < int64(time.Minute) {
		t.Errorf("a minute's work counts %v", time.Duration(got))
	}
	if got := said(100 + lagTicks); got < time.Minute {
		t.Errorf("after half a minute it is %v", got)
	}
	if got := said(100 + 2*lagTicks); got != 0 {
		t.Errorf("after a minute it is still %v", got)
	}
}

// TestReplaysAreCounted: from memory, from NATS, and what was not all.
func TestReplaysAreCounted(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.RingBytes = 20 << 10 })
	for range 100 {
		a.publish("user.alice", "rooms.1")
	}
	for cursor, events := range map[string]int{"s1.198": 1, "s1.200": 0, "s1.300": 0, "s1.0": 100, "s2.1": 0} {
		c := a.join(t, grant(t, nil), "cursor="+cursor)
		c.events(events)
		c.next()
		_ = c.CloseNow()
	}
	c := a.join(t, grant(t, may("rooms.*")), "")
	c.expect(`{"type":"subscribe","ref":"1","subject":"rooms.1","from":"start"}`, "subscribed rooms.1 1")
	c.events(100)
	c.next()
	st := a.hub.Stats()
	got := map[string]int64{}
	for _, r := range st.Replays {
		got[r.Scope+" "+r.Result] = r.Count
	}
	want := map[string]int64{
		"session ring": 3, "session stream": 1, "session incomplete": 1, "subject ring": 0, "subject stream": 1, "subject incomplete": 0,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || st.Replayed != 201 {
		t.Errorf("got %v and %d events, want %v and 201", got, st.Replayed, want)
	}
	if st.RingAge <= 0 || st.RingAge > time.Hour {
		t.Errorf("the ring reaches back %v", st.RingAge)
	}
}

// TestRecentEndings keeps the last ones, the newest first, and not whose they
// were.
func TestRecentEndings(t *testing.T) {
	h := newBareHub(t, 1)
	if got := h.RecentEndings(); got == nil || len(got) != 0 {
		t.Errorf("before any it gives %v", got)
	}
	for i := range recentEndings + 7 {
		h.last.add(Ending{Session: fmt.Sprint(i), Reason: api.ReasonSlow.String(), Code: api.ReasonSlow.Code()})
	}
	got := h.RecentEndings()
	if len(got) != recentEndings || got[0].Session != "56" || got[recentEndings-1].Session != "7" {
		t.Errorf("got %d, from %v to %v", len(got), got[0], got[len(got)-1])
	}
	if text := fmt.Sprintf("%+v", got[0]); strings.Contains(strings.ToLower(text), "user") {
		t.Errorf("it says %s", text)
	}
}
