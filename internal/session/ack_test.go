package session

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pushgate/api"
)

// ackBook keeps what is acknowledged in plain maps.
type ackBook struct {
	mu     sync.Mutex
	acks   []string
	keeps  int
	places map[string]api.Position
}

func (b *ackBook) Ack(a api.Ack) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acks = append(b.acks, fmt.Sprintf("%s %s %d %s", a.User, a.Device, len(a.Session), a.At.Cursor()))
}

func (b *ackBook) Keep(user, device string, at api.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeps++
	b.places[user+" "+device] = at
}

func (b *ackBook) Place(user, device string, done func(api.Position, bool)) {
	go func() {
		b.mu.Lock()
		at, ok := b.places[user+" "+device]
		b.mu.Unlock()
		done(at, ok)
	}()
}

func (b *ackBook) read() (acks string, keeps int, place string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.acks, ", "), b.keeps, b.places["alice phone"].Cursor()
}

// TestPlaceBesideABroadcast: who has been given a broadcast has it, and may say
// so, while others still wait for it.
func TestPlaceBesideABroadcast(t *testing.T) {
	h := readerHub(t)
	var l *loop
	var ids []uint32
	for i := range 3 * sliceSize {
		var id uint32
		l, id = enrollUser(h, fmt.Sprint("u", i), time.Now().Add(time.Hour).Unix())
		// Something waits already, so that nothing is written.
		l.enqueue(id, l.trafficOf(id, l.slots.at(id)), segment{frames: []byte("x")})
		ids = append(ids, id)
	}
	defer func() {
		for _, id := range ids {
			l.discard(id)
		}
	}()
	l.stream = "s1"
	places := func() (there int) {
		l.turns++
		for _, id := range ids {
			if s := l.slots.at(id); l.cursor(id, s) == "s1.1" {
				there++
				l.onAck(id, s, &api.Control{Type: "ack", Cursor: "s1.1"})
			}
		}
		return there
	}
	book := &ackBook{places: map[string]api.Position{}}
	h.cfg.Acks = book
	l.deliver(h.newDelivery(&api.Event{Subject: "broadcast", Seq: 1, Data: []byte("1")}, time.Now()))
	for _, want := range []int{sliceSize, 2 * sliceSize, 3 * sliceSize} {
		l.runSlice()
		if n := places(); n != want {
			t.Errorf("%d have it, want %d", n, want)
		}
	}
	if len(book.acks) != len(ids) {
		t.Errorf("%d of %d acknowledgements were taken", len(book.acks), len(ids))
	}
}

func TestAcks(t *testing.T) {
	book := &ackBook{places: map[string]api.Position{}}
	a := storedHub(t, func(c *Config) { c.Acks = book })
	token := grant(t, nil)
	c := a.join(t, token, "device=phone")
	for range 10 {
		a.publish("user.alice")
	}
	c.events(10)
	c.say(`{"type":"ack","cursor":"s1.3"}`)
	c.say(`{"type":"ack","cursor":"s1.2"}`) // known
	c.say(`{"type":"ack","cursor":"s1.7"}`)
	c.expect(`{"type":"ack","ref":"1","cursor":"s1.11"}`, "error bad_request 1")
	c.expect(`{"type":"ack","ref":"2","cursor":"s2.1"}`, "error bad_request 2")
	c.expect(`{"type":"ack","ref":"3","cursor":"x"}`, "error bad_request 3")
	if acks, _, _ := book.read(); acks != "alice phone 22 s1.3, alice phone 22 s1.7" {
		t.Errorf("acknowledged were %s", acks)
	}
	_ = c.CloseNow()
	eventually(t, "the last place is kept", func() bool { _, _, place := book.read(); return place == "s1.7" })
	if _, keeps, _ := book.read(); keeps > 2 {
		t.Errorf("two acknowledgements were kept %d times", keeps)
	}
	// The device comes back without its cursor.
	c = a.join(t, token, "device=phone")
	if c.welcome["cursor"] != "s1.7" {
		t.Errorf("it begins at %v", c.welcome["cursor"])
	}
	if got := c.events(3); fmt.Sprint(got) != "[8 9 10]" {
		t.Errorf("got %v", got)
	}
	if m := c.next(); m["complete"] != true || m["replayed"] != 3.0 {
		t.Errorf("got %v", m)
	}
	// One that brings a cursor, and another device, are not asked for.
	if m := a.join(t, token, "device=phone&cursor=s1.9").next(); m["cursor"] != "s1.10" || m["type"] != "event" {
		t.Errorf("got %v", m)
	}
	if c := a.join(t, token, "device=tablet"); c.welcome["cursor"] != "s1.10" {
		t.Errorf("another device begins at %v", c.welcome["cursor"])
	}
	for _, bad := range []string{strings.Repeat("x", 65), "a%0Ab", "%FF"} {
		raw := a.hub.connect(t)
		raw.write(strings.Replace(upgradeHead(token), "/v1/ws", "/v1/ws?device="+bad, 1))
		if status, err := raw.r.ReadString('\n'); err != nil || !strings.HasPrefix(status, "HTTP/1.1 400 ") {
			t.Errorf("%s: %q, %v", bad, status, err)
		}
	}
}
