package bus

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"pushgate/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startNATS runs a real server. Port 0 chooses one.
func startNATS(tb testing.TB, port int) *server.Server {
	tb.Helper()
	return startServer(tb, &server.Options{Port: port})
}

// startServer runs a real server with more options.
func startServer(tb testing.TB, o *server.Options) *server.Server {
	tb.Helper()
	o.Host, o.NoSigs, o.NoLog = "127.0.0.1", true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(o)
	if err != nil {
		tb.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		tb.Fatal("the NATS server does not start")
	}
	tb.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func portOf(tb testing.TB, s *server.Server) int {
	tb.Helper()
	tcp, ok := s.Addr().(*net.TCPAddr)
	if !ok {
		tb.Fatalf("the server listens on %v", s.Addr())
	}
	return tcp.Port
}

// sink collects events.
type sink struct {
	mu     sync.Mutex
	events []api.Event

	streams []api.Position
	lost    []uint64
}

func (s *sink) Stream(at api.Position, _ uint64) {
	s.mu.Lock()
	s.streams = append(s.streams, at)
	s.mu.Unlock()
}

func (s *sink) Lost(through uint64) {
	s.mu.Lock()
	s.lost = append(s.lost, through)
	s.mu.Unlock()
}

func (s *sink) Deliver(events []api.Event) {
	s.mu.Lock()
	s.events = append(s.events, events...)
	s.mu.Unlock()
}

func (s *sink) all() []api.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]api.Event(nil), s.events...)
}

func (s *sink) await(tb testing.TB, n int) []api.Event {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d events", n), func() bool { return len(s.all()) >= n })
	return s.all()
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("never came true: %s", what)
		}
		pause := time.NewTimer(2 * time.Millisecond)
		<-pause.C
	}
}

func openBus(tb testing.TB, url string, exact bool) (*Bus, *sink) {
	tb.Helper()
	s := &sink{}
	b, err := New(Config{
		Options: Options{URL: url, Name: "test"}, Log: zap.NewNop(),
		Prefix: "push", FlashPrefix: "flash", Exact: exact,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Close)
	if err := b.Start(s); err != nil {
		tb.Fatal(err)
	}
	eventually(tb, "NATS has taken the subscriptions", b.EverConnected)
	return b, s
}

func connect(tb testing.TB, url string) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

func TestEventsAreDecoded(t *testing.T) {
	s := startNATS(t, 0)
	b, got := openBus(t, s.ClientURL(), false)
	if err := b.Flush(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	nc := connect(t, s.ClientURL())
	send := func(subject, data string, header ...string) {
		t.Helper()
		m := nats.NewMsg(subject)
		m.Data = []byte(data)
		for i := 0; i < len(header); i += 2 {
			m.Header.Set(header[i], header[i+1])
		}
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	send("push.user.alice", `{"a":1}`)
	send("flash.user.alice", "typing")
	send("push.x", "", "Nats-Msg-Id", "m-1", "ce-id", "c-1", "Content-Type", "Text/Plain; charset=utf-8")
	send("push.y", "b", "ce-id", "c-2", "Content-Type", "application/octet-stream")
	send("other.y", "not ours")
	send("push.last", "end")
	events := got.await(t, 5)
	for i, want := range []api.Event{
		{Subject: "user.alice", Data: []byte(`{"a":1}`)},
		{Subject: "user.alice", Data: []byte("typing")},
		{Subject: "x", ID: "m-1", Format: api.FormatText, Data: []byte{}},
		{Subject: "y", ID: "c-2", Format: api.FormatBinary, Data: []byte("b")},
		{Subject: "last", Data: []byte("end")},
	} {
		e := events[i]
		if e.Subject != want.Subject || e.ID != want.ID || e.Format != want.Format || string(e.Data) != string(want.Data) {
			t.Errorf("event %d is %+v, want %+v", i, e, want)
		}
		if time.Since(e.Time) > time.Minute {
			t.Errorf("event %d has the time %v", i, e.Time)
		}
	}
}

func TestExactInterest(t *testing.T) {
	s := startNATS(t, 0)
	b, got := openBus(t, s.ClientURL(), true)
	nc := connect(t, s.ClientURL())
	acquire := func(subjects ...string) {
		t.Helper()
		ready := make(chan struct{})
		b.Interest().Acquire(subjects, func() { close(ready) })
		select {
		case <-ready:
		case <-time.After(10 * time.Second):
			t.Fatal("interest is never ready")
		}
	}
	acquire("user.alice", "broadcast")
	acquire("user.bob", "broadcast")
	if n := b.Stats().Subjects; n != 3 {
		t.Errorf("%d subjects are held, want 3", n)
	}
	// No flush between: ready means that the server knows.
	for _, subject := range []string{"push.user.alice", "flash.user.bob", "push.user.carol", "push.broadcast"} {
		if err := nc.Publish(subject, []byte(subject)); err != nil {
			t.Fatal(err)
		}
	}
	events := got.await(t, 3)
	var subjects []string
	for _, e := range events {
		subjects = append(subjects, e.Subject)
	}
	if all := strings.Join(subjects, " "); all != "user.alice user.bob broadcast" {
		t.Errorf("got %s", all)
	}

	b.Interest().Release([]string{"user.alice", "broadcast"})
	b.Interest().Release([]string{"user.bob", "broadcast"})
	eventually(t, "nothing is held", func() bool { return b.Stats().Subjects == 0 })
	if err := b.Flush(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	// With nobody interested NATS itself says so.
	if _, err := nc.Request("flash.user.alice", nil, 5*time.Second); err != nats.ErrNoResponders {
		t.Errorf("a request to nobody gives %v", err)
	}
	if n := s.NumSubscriptions(); n == 0 {
		t.Error("the server lost its own subscriptions")
	}
}

func TestReconnect(t *testing.T) {
	for _, exact := range []bool{false, true} {
		t.Run(fmt.Sprintf("exact=%v", exact), func(t *testing.T) {
			s := startNATS(t, 0)
			port := portOf(t, s)
			b, got := openBus(t, s.ClientURL(), exact)
			if exact {
				ready := make(chan struct{})
				b.Interest().Acquire([]string{"user.alice"}, func() { close(ready) })
				<-ready
			}
			s.Shutdown()
			s.WaitForShutdown()
			eventually(t, "the bus notices", func() bool { return !b.Connected() })
			if b.DownFor() <= 0 || !b.EverConnected() {
				t.Error("the outage is not measured")
			}
			if exact {
				// A session that comes meanwhile must not hang.
				ready := make(chan struct{})
				b.Interest().Acquire([]string{"user.bob"}, func() { close(ready) })
				<-ready
			}
			again := startNATS(t, port)
			eventually(t, "the bus comes back", b.Connected)
			if err := b.Flush(5 * time.Second); err != nil {
				t.Fatal(err)
			}
			nc := connect(t, again.ClientURL())
			if err := nc.Publish("push.user.alice", []byte("1")); err != nil {
				t.Fatal(err)
			}
			got.await(t, 1)
			if exact {
				if err := nc.Publish("push.user.bob", []byte("2")); err != nil {
					t.Fatal(err)
				}
				got.await(t, 2)
			}
		})
	}
}

func TestStartWithoutServer(t *testing.T) {
	b, err := New(Config{
		Options: Options{URL: "nats://127.0.0.1:1"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(&sink{}); err != nil {
		t.Fatal(err)
	}
	if b.Connected() || b.EverConnected() {
		t.Error("connected to nothing")
	}
	b.Close()
}
