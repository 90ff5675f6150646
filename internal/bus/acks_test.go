package bus

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"pushgate/api"
)

// listen subscribes, and the server knows it.
func listen(tb testing.TB, nc *nats.Conn, subject string) *nats.Subscription {
	tb.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		tb.Fatal(err)
	}
	if err := nc.FlushTimeout(patience); err != nil {
		tb.Fatal(err)
	}
	return sub
}

// next is the message that comes next.
func next(tb testing.TB, sub *nats.Subscription) (subject, data string) {
	tb.Helper()
	m, err := sub.NextMsg(patience)
	if err != nil {
		tb.Fatal(err)
	}
	return m.Subject, string(m.Data)
}

func TestAcksArePublished(t *testing.T) {
	s := startNATS(t, 0)
	g := openKeeper(t, s.ClientURL(), "a", nil)
	sub := listen(t, connect(t, s.ClientURL()), "pushgate.ack.*")
	// A name that is not one token goes nowhere.
	for _, user := range []string{"", "a.b", "*", ">", "a b", "a\r\nPUB x 0"} {
		g.Ack(api.Ack{User: user, Session: "s", At: pos(1)})
	}
	g.Ack(api.Ack{User: "one/alice", Session: "s1", Device: "phone", At: pos(42)})
	g.Ack(api.Ack{User: "bob", Session: "s2", At: pos(43)})
	for _, want := range [][2]string{
		{"pushgate.ack.one/alice", `{"user":"one/alice","device":"phone","session":"s1","cursor":"e1.42","seq":42,"gateway":"a"}`},
		{"pushgate.ack.bob", `{"user":"bob","session":"s2","cursor":"e1.43","seq":43,"gateway":"a"}`},
	} {
		if subject, data := next(t, sub); subject != want[0] || data != want[1] {
			t.Errorf("got %s on %s", data, subject)
		}
	}
	eventually(t, "they are counted", func() bool { st := g.Stats(); return st.AcksPublished == 2 && st.AcksDropped == 6 })

	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "the outage is noticed", func() bool { return !g.Connected() })
	g.Ack(api.Ack{User: "bob", Session: "s2", At: pos(44)})
	g.Receipt("inbox", 1)
	if st := g.Stats(); st.AcksDropped != 7 || st.ReceiptsDropped != 1 {
		t.Errorf("got %+v", st)
	}
}

// What waits when the bus is closed goes out, and nothing later.
func TestCloseSendsWhatWaits(t *testing.T) {
	bound(t, &stopWithin, patience)
	s := startNATS(t, 0)
	g := openKeeper(t, s.ClientURL(), "a", nil)
	sub := listen(t, connect(t, s.ClientURL()), "pushgate.ack.*")
	for n := range uint64(1000) {
		g.Ack(api.Ack{User: "alice", Session: "s", At: pos(n)})
	}
	g.Close()
	g.Ack(api.Ack{User: "alice", Session: "s", At: pos(1000)})
	for range 1000 {
		next(t, sub)
	}
	if st := g.Stats(); st.AcksPublished != 1000 || st.AcksDropped != 1 {
		t.Errorf("got %+v", st)
	}
}

func TestPostIsBounded(t *testing.T) {
	b, err := New(Config{Options: Options{URL: "nats://127.0.0.1:1"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash"})
	if err != nil {
		t.Fatal(err)
	}
	b.connected.Store(true)
	for range maxPost + 3 { // nobody takes from the queue yet
		b.Receipt("inbox", 1)
	}
	if n := b.Stats().ReceiptsDropped; n != 3 {
		t.Errorf("%d are dropped", n)
	}
}

func TestServeAcksRefuses(t *testing.T) {
	b, err := New(Config{Options: Options{URL: "nats://127.0.0.1:1"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash"})
	if err != nil {
		t.Fatal(err)
	}
	for want, err := range map[string]error{
		"need the gateway's name": b.ServeAcks("", time.Hour),
		"cannot be kept for 1ms":  b.ServeAcks("a", time.Millisecond),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	// Without it nothing is done, and everybody is answered.
	b.Ack(api.Ack{User: "alice", At: pos(1)})
	b.Keep("alice", "phone", pos(1))
	answer := make(chan bool)
	b.Place("alice", "phone", func(_ api.Position, ok bool) { answer <- ok })
	if <-answer {
		t.Error("a place is known")
	}
}
