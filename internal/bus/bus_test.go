package bus

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
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

const (
	// patience bounds whatever a test waits for: machines may be slow.
	patience = time.Minute
	// promptly is far less: who takes as long has waited for something in vain.
	promptly = patience / 2
)

func TestMain(m *testing.M) {
	// Nothing is to fail for being slow. A test that is about a bound sets its own.
	for _, bound := range []*time.Duration{
		&fetchWithin, &flushTimeout, &keepWithin, &lookWithin, &openWithin, &placeWithin, &publishWithin,
	} {
		*bound = patience
	}
	goleak.VerifyTestMain(settled{m})
}

// settled gives goroutines that are about to end the time for it on a busy
// machine; goleak itself gives them half a second.
type settled struct{ *testing.M }

func (s settled) Run() int {
	code := s.M.Run()
	for end := time.Now().Add(patience); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// bound sets a bound of the program's until the test is over. It is for before
// anything runs that reads it.
func bound(tb testing.TB, what *time.Duration, d time.Duration) {
	tb.Helper()
	was := *what
	if was == d {
		return
	}
	*what = d
	tb.Cleanup(func() { *what = was })
}

// swallowing is for where answers of NATS get lost: who waits for one has to ask
// again soon.
func swallowing(tb testing.TB) {
	tb.Helper()
	bound(tb, &openWithin, 5*time.Second)
}

// startNATS runs a real server. Port 0 chooses one.
func startNATS(tb testing.TB, port int) *server.Server {
	tb.Helper()
	return startServer(tb, &server.Options{Port: port})
}

// startServer runs a real server with more options.
func startServer(tb testing.TB, o *server.Options) *server.Server {
	tb.Helper()
	o.Host, o.NoSigs, o.NoLog = "127.0.0.1", true, true
	o.AuthTimeout, o.WriteDeadline = patience.Seconds(), patience
	if o.Port == 0 {
		o.Port = freePort(tb)
	}
	s, err := server.NewServer(o)
	if err != nil {
		tb.Fatal(err)
	}
	s.Start()
	tb.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		tb.Fatal("the NATS server does not start")
	}
	return s
}

// freePort is a port that nobody uses, below those that the system gives to
// connections: a server that is away for a moment finds it free again. The UDP
// port of the same number tells other processes that run such tests to pass it
// over.
func freePort(tb testing.TB) int {
	tb.Helper()
	for range 1000 {
		port := 15_000 + rand.IntN(15_000)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		claim, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		tb.Cleanup(func() { _ = claim.Close() })
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return port
		}
	}
	tb.Fatal("no port is free")
	return 0
}

// storeDir is a folder for a server. What a server that has ended does to its
// files yet, testing's own folders would not bear.
func storeDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pushgate")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		eventually(tb, "the folder is removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
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
	deadline := time.Now().Add(patience)
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
	nc, err := nats.Connect(url, nats.Timeout(patience))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// acquire wants subjects, and waits until NATS sends their events. It is for
// tests, those of rapid too.
func acquire(tb interface {
	Helper()
	Fatalf(string, ...any)
}, b *Bus, subjects ...string) {
	tb.Helper()
	ready := make(chan struct{})
	b.Interest().Acquire(subjects, func() { close(ready) })
	select {
	case <-ready:
	case <-time.After(2 * patience):
		tb.Fatalf("interest in %v is never ready", subjects)
	}
}

func TestEventsAreDecoded(t *testing.T) {
	s := startNATS(t, 0)
	b, got := openBus(t, s.ClientURL(), false)
	if err := b.Flush(patience); err != nil {
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
		if time.Since(e.Time) > time.Hour {
			t.Errorf("event %d has the time %v", i, e.Time)
		}
	}
}

func TestExactInterest(t *testing.T) {
	s := startNATS(t, 0)
	b, got := openBus(t, s.ClientURL(), true)
	nc := connect(t, s.ClientURL())
	acquire(t, b, "user.alice", "broadcast")
	acquire(t, b, "user.bob", "broadcast")
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
	if err := b.Flush(patience); err != nil {
		t.Fatal(err)
	}
	// With nobody interested NATS itself says so.
	if _, err := nc.Request("flash.user.alice", nil, patience); err != nats.ErrNoResponders {
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
				acquire(t, b, "user.alice")
			}
			s.Shutdown()
			s.WaitForShutdown()
			eventually(t, "the bus notices", func() bool { return !b.Connected() })
			if b.DownFor() <= 0 || !b.EverConnected() {
				t.Error("the outage is not measured")
			}
			if exact {
				// A session that comes meanwhile must not hang.
				acquire(t, b, "user.bob")
			}
			again := startNATS(t, port)
			eventually(t, "the bus comes back", b.Connected)
			if err := b.Flush(patience); err != nil {
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

// busySink stays in its first delivery for as long as it is told.
type busySink struct {
	sink
	begun, end chan struct{}
	once       sync.Once
}

func (s *busySink) Deliver(events []api.Event) {
	s.once.Do(func() {
		close(s.begun)
		<-s.end
	})
	s.sink.Deliver(events)
}

// A bus that is closed delivers nothing any more: what is under way it waits for.
func TestCloseWaitsForDelivery(t *testing.T) {
	s := startNATS(t, 0)
	b, err := New(Config{Options: Options{URL: s.ClientURL()}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	into := &busySink{begun: make(chan struct{}), end: make(chan struct{})}
	if err := b.Start(into); err != nil {
		t.Fatal(err)
	}
	eventually(t, "NATS has taken the subscriptions", b.EverConnected)
	if err := connect(t, s.ClientURL()).Publish("push.a", nil); err != nil {
		t.Fatal(err)
	}
	<-into.begun
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.Close()
		if n := len(into.all()); n != 1 {
			t.Errorf("%d events were delivered when it was closed", n)
		}
	}()
	// Without waiting it is closed within a few milliseconds.
	select {
	case <-closed:
	case <-time.After(300 * time.Millisecond):
	}
	close(into.end)
	<-closed
}
