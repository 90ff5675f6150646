package bus

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"pushgate/api"
)

// newKeeper is a gateway without control service that serves acknowledgements.
// change may be nil.
func newKeeper(tb testing.TB, url, name string, change func(*places)) *gateway {
	tb.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	b, err := New(Config{
		Options: Options{URL: url, Name: name}, Log: zap.New(core), Prefix: "push", FlashPrefix: "flash",
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Close)
	if err := b.ServeAcks(name, time.Hour); err != nil {
		tb.Fatal(err)
	}
	b.acks.places.gather = time.Millisecond
	if change != nil {
		change(b.acks.places)
	}
	if err := b.Start(&sink{}); err != nil {
		tb.Fatal(err)
	}
	return &gateway{b, nil, logs}
}

func openKeeper(tb testing.TB, url, name string, change func(*places)) *gateway {
	tb.Helper()
	g := newKeeper(tb, url, name, change)
	eventually(tb, name+" is connected", g.EverConnected)
	return g
}

// ask looks a place up. "" is unknown.
func (g *gateway) ask(tb testing.TB, user, device string) string {
	tb.Helper()
	answer := make(chan string, 2)
	began := time.Now()
	g.Place(user, device, func(at api.Position, ok bool) {
		if ok != (at.Cursor() != "") {
			tb.Errorf("%v, %v", at, ok)
		}
		answer <- at.Cursor()
	})
	if took := time.Since(began); took > promptly {
		tb.Errorf("asking took %s", took)
	}
	select {
	case got := <-answer:
		return got
	case <-time.After(2 * patience):
		tb.Fatal("there is no answer")
	}
	return ""
}

// awaitPlace waits until a gateway finds a place.
func (g *gateway) awaitPlace(tb testing.TB, user, device, cursor string) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%s's %s is at %q", user, device, cursor), func() bool { return g.ask(tb, user, device) == cursor })
}

// idle waits until nothing waits to be written.
func (g *gateway) idle(tb testing.TB) {
	tb.Helper()
	eventually(tb, "all places are written", func() bool {
		p := g.acks.places
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.users) == 0
	})
}

func openPlaces(tb testing.TB, url string) (jetstream.JetStream, jetstream.KeyValue) {
	tb.Helper()
	js := newJetStream(tb, url)
	bucket, err := js.KeyValue(tb.Context(), placesName)
	if err != nil {
		tb.Fatal(err)
	}
	return js, bucket
}

func pos(seq uint64) api.Position { return api.Position{Stream: "e1", Seq: seq} }

func TestPlaceIsFoundByAnother(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	a, b := openKeeper(t, s.ClientURL(), "a", nil), openKeeper(t, s.ClientURL(), "b", nil)
	a.Keep("one/alice", "phone", pos(42))
	b.awaitPlace(t, "one/alice", "phone", "e1.42")
	b.Keep("one/alice", "pad", pos(43))
	a.awaitPlace(t, "one/alice", "pad", "e1.43")
	if got := a.ask(t, "one/alice", "phone"); got != "e1.42" {
		t.Errorf("the phone is at %q", got)
	}
	for _, who := range [][2]string{{"one/alice", "tv"}, {"bob", "phone"}, {"", ""}} {
		if got := a.ask(t, who[0], who[1]); got != "" {
			t.Errorf("%v is at %q", who, got)
		}
	}
	// What could not be found again is not kept.
	a.Keep("", "phone", pos(1))
	a.Keep("bob", "phone", api.Position{})
	a.idle(t)
	_, bucket := openPlaces(t, s.ClientURL())
	status, err := bucket.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg := status.Config()
	if cfg.TTL != time.Hour || cfg.History != 1 || cfg.Storage != jetstream.FileStorage || cfg.Replicas != 1 || status.Values() != 1 {
		t.Errorf("got %+v with %d values", cfg, status.Values())
	}
	if st := a.Stats(); st.PlacesKept != 1 || st.PlacesFailed != 0 {
		t.Errorf("got %+v", st)
	}
}

func TestPlaceNeverGoesBack(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	a, b := openKeeper(t, s.ClientURL(), "a", nil), openKeeper(t, s.ClientURL(), "b", nil)
	a.Keep("alice", "phone", pos(42))
	b.awaitPlace(t, "alice", "phone", "e1.42")
	a.idle(t)
	b.Keep("alice", "phone", pos(41))
	if got := b.ask(t, "alice", "phone"); got != "e1.42" {
		t.Errorf("while the lower one waits: %q", got)
	}
	b.idle(t)
	if got := a.ask(t, "alice", "phone"); got != "e1.42" {
		t.Errorf("got %q", got)
	}
	b.Keep("alice", "phone", api.Position{Stream: "e2", Seq: 1})
	a.awaitPlace(t, "alice", "phone", "e2.1")

	// Many at once, through both: conflicts, and the furthest wins.
	for n := range uint64(50) {
		[]*gateway{a, b}[n%2].Keep("bob", "phone", pos(100+n*7%50))
		[]*gateway{b, a}[n%2].Keep("bob", "pad", pos(200+n*7%50))
	}
	a.idle(t)
	b.idle(t)
	if phone, pad := a.ask(t, "bob", "phone"), b.ask(t, "bob", "pad"); phone != "e1.149" || pad != "e1.249" {
		t.Errorf("got %q and %q", phone, pad)
	}
}

func TestStoredDevicesAreBounded(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	g := openKeeper(t, s.ClientURL(), "a", nil)
	g.ask(t, "alice", "phone") // makes the bucket
	_, bucket := openPlaces(t, s.ClientURL())
	var old []string
	for n := range maxDevices {
		old = append(old, fmt.Sprintf(`"d%d":{"cursor":"e1.1","at":%d}`, n, 1000-n))
	}
	value := fmt.Sprintf(`{"devices":{%s}}`, strings.Join(old, ","))
	if _, err := bucket.Put(t.Context(), bucketKey("alice"), []byte(value)); err != nil {
		t.Fatal(err)
	}
	g.Keep("alice", "new", pos(2))
	g.idle(t)
	for device, want := range map[string]string{"new": "e1.2", "d0": "e1.1", "d6": "e1.1", "d7": ""} {
		if got := g.ask(t, "alice", device); got != want {
			t.Errorf("%s is at %q", device, got)
		}
	}
}

func TestBrokenPlaces(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	g := openKeeper(t, s.ClientURL(), "a", nil)
	g.ask(t, "alice", "phone")
	_, bucket := openPlaces(t, s.ClientURL())
	for _, value := range []string{"junk", `{"devices":{"phone":{"cursor":"E1.1"}}}`} {
		if _, err := bucket.Put(t.Context(), bucketKey("alice"), []byte(value)); err != nil {
			t.Fatal(err)
		}
		if got := g.ask(t, "alice", "phone"); got != "" {
			t.Errorf("%s is read as %q", value, got)
		}
		g.Keep("alice", "phone", pos(5))
		g.idle(t)
		if got := g.ask(t, "alice", "phone"); got != "e1.5" {
			t.Errorf("%s is not replaced: %q", value, got)
		}
	}
	if err := bucket.Delete(t.Context(), bucketKey("alice")); err != nil {
		t.Fatal(err)
	}
	g.Keep("alice", "phone", pos(4))
	g.idle(t)
	if got := g.ask(t, "alice", "phone"); got != "e1.4" {
		t.Errorf("what was deleted does not come again: %q", got)
	}
}

func TestManyKeepsAreFewWrites(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	g := openKeeper(t, s.ClientURL(), "a", func(p *places) { p.gather = gatherPlaces })
	began := time.Now()
	for n := range uint64(500) {
		g.Keep("alice", "phone", pos(n))
		g.Keep("alice", "pad", pos(n))
	}
	// What waits is seen already.
	if got := g.ask(t, "alice", "phone"); got != "e1.499" {
		t.Errorf("got %q", got)
	}
	g.idle(t)
	most := 2 + uint64(time.Since(began)/gatherPlaces)
	_, bucket := openPlaces(t, s.ClientURL())
	entry, err := bucket.Get(t.Context(), bucketKey("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if n := entry.Revision(); n > most {
		t.Errorf("%d writes, want %d at most", n, most)
	}
	for _, device := range []string{"phone", "pad"} {
		if got := g.ask(t, "alice", device); got != "e1.499" {
			t.Errorf("%s is at %q", device, got)
		}
	}
}

func TestPlacesAfterNATSRestarts(t *testing.T) {
	dir := storeDir(t)
	s := startJetStream(t, 0, dir)
	port, url := portOf(t, s), s.ClientURL()
	a, b := openKeeper(t, url, "a", nil), openKeeper(t, url, "b", nil)
	a.Keep("alice", "phone", pos(1))
	b.awaitPlace(t, "alice", "phone", "e1.1")
	a.idle(t)
	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "the outage is noticed", func() bool { return !a.Connected() && !b.Connected() })
	if got := b.ask(t, "alice", "phone"); got != "" {
		t.Errorf("%q is found nowhere", got)
	}
	a.Keep("bob", "phone", pos(2))
	if got := a.ask(t, "bob", "phone"); got != "e1.2" {
		t.Errorf("what waits is not seen: %q", got)
	}
	startJetStream(t, port, dir)
	eventually(t, "NATS is back", func() bool { return a.Connected() && b.Connected() })
	b.awaitPlace(t, "alice", "phone", "e1.1")
	a.Keep("alice", "phone", pos(3))
	b.awaitPlace(t, "alice", "phone", "e1.3")
}

func TestPlacesBucketIsLost(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	a, b := openKeeper(t, s.ClientURL(), "a", nil), openKeeper(t, s.ClientURL(), "b", nil)
	a.Keep("alice", "phone", pos(1))
	b.awaitPlace(t, "alice", "phone", "e1.1")
	a.idle(t)
	for n := range uint64(2) {
		js, _ := openPlaces(t, s.ClientURL())
		if err := js.DeleteKeyValue(t.Context(), placesName); err != nil {
			t.Fatal(err)
		}
		awaitCleared(t, s)
		if n == 0 { // who reads first makes it, then who writes
			if got := b.ask(t, "alice", "phone"); got != "" {
				t.Errorf("got %q", got)
			}
		}
		a.Keep("alice", "phone", pos(2+n))
		b.awaitPlace(t, "alice", "phone", fmt.Sprint("e1.", 2+n))
		a.idle(t)
	}
	if st := a.Stats(); st.PlacesFailed != 0 {
		t.Errorf("got %+v", st)
	}
}

func TestPlacesWithoutJetStream(t *testing.T) {
	s := startNATS(t, 0)
	g := openKeeper(t, s.ClientURL(), "a", func(p *places) { p.bucket.absentPause = 20 * time.Millisecond })
	for n := range uint64(5) {
		g.Keep("alice", "phone", pos(n))
		g.idle(t)
		if got := g.ask(t, "alice", "phone"); got != "" {
			t.Errorf("got %q", got)
		}
	}
	if st := g.Stats(); st.PlacesFailed != 5 || st.PlacesKept != 0 {
		t.Errorf("got %+v", st)
	}
	if n := g.logged("acknowledged places"); n != 1 {
		t.Errorf("%d lines tell of it", n)
	}
	if err := s.EnableJetStream(&server.JetStreamConfig{StoreDir: storeDir(t)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "JetStream is found", func() bool {
		g.Keep("alice", "phone", pos(7))
		g.idle(t)
		return g.ask(t, "alice", "phone") == "e1.7"
	})
	if n := g.logged("acknowledged places are kept in NATS"); n != 1 {
		t.Errorf("the end of it was told %d times", n)
	}
}

func TestCloseWritesWhatWaits(t *testing.T) {
	bound(t, &stopWithin, patience)
	s := startJetStream(t, 0, storeDir(t))
	a, b := openKeeper(t, s.ClientURL(), "a", func(p *places) { p.gather = time.Hour }), openKeeper(t, s.ClientURL(), "b", nil)
	for n := range uint64(200) {
		a.Keep(fmt.Sprint("user", n), "phone", pos(n))
	}
	began := time.Now()
	a.Close()
	if took := time.Since(began); took > promptly {
		t.Errorf("closing took %s", took)
	}
	for n := range uint64(200) {
		if got := b.ask(t, fmt.Sprint("user", n), "phone"); got != pos(n).Cursor() {
			t.Fatalf("user%d is at %q", n, got)
		}
	}
	// Afterwards nothing waits, and everybody is answered.
	a.Keep("alice", "phone", pos(1))
	if got := a.ask(t, "alice", "phone"); got != "" {
		t.Errorf("got %q", got)
	}
	if st := a.Stats(); st.PlacesKept != 200 || st.PlacesFailed != 1 {
		t.Errorf("got %+v", st)
	}
	a.Close()
}

func TestCloseWithoutNATS(t *testing.T) {
	bound(t, &stopWithin, patience)
	g := newKeeper(t, "nats://127.0.0.1:1", "a", func(p *places) { p.gather = time.Hour })
	g.Keep("alice", "phone", pos(1))
	if got := g.ask(t, "alice", "phone"); got != "e1.1" {
		t.Errorf("what waits is not seen: %q", got)
	}
	began := time.Now()
	g.Close()
	if took := time.Since(began); took > promptly {
		t.Errorf("closing took %s", took)
	}
	if st := g.Stats(); st.PlacesFailed != 1 || g.logged("acknowledged places are lost") != 1 {
		t.Errorf("got %+v", st)
	}
}

// A bucket that answers nobody delays no answer, nor the end.
func TestPlacesCannotBeRead(t *testing.T) {
	bound(t, &lookWithin, time.Second)
	s := startServer(t, &server.Options{JetStream: true, StoreDir: storeDir(t), Users: []*server.User{{
		Username: "u", Password: "p",
		Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}},
	}}})
	g := openKeeper(t, strings.Replace(s.ClientURL(), "://", "://u:p@", 1), "a", nil)
	began := time.Now()
	if got := g.ask(t, "alice", "phone"); got != "" {
		t.Errorf("got %q", got)
	}
	// Whoever opens the bucket for it tries for as long as openWithin.
	if took := time.Since(began); took > promptly {
		t.Errorf("the answer took %s", took)
	}
	began = time.Now()
	g.Close()
	if took := time.Since(began); took > promptly {
		t.Errorf("closing took %s", took)
	}
}

func TestPlacesAreBounded(t *testing.T) {
	bound(t, &lookWithin, 2*time.Second)
	b, err := New(Config{Options: Options{URL: "nats://127.0.0.1:1"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash"})
	if err != nil {
		t.Fatal(err)
	}
	p := newPlaces(b, time.Hour)
	defer p.cancel()
	for n := range maxPlaceUsers { // nobody takes from the queues yet
		p.keep(fmt.Sprint("user", n), "phone", pos(1))
	}
	p.keep("late", "phone", pos(1))
	p.keep("user0", "phone", pos(2))
	if n := p.failed.Load(); n != 1 || len(p.waiting("late")) != 0 || p.waiting("user0")["phone"].Cursor != "e1.2" {
		t.Errorf("%d failed", n)
	}
	answers := make(chan bool, maxLookups+1)
	for range maxLookups + 1 {
		p.find("user0", "phone", func(_ api.Position, ok bool) { answers <- ok })
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	known := 0
	for range maxLookups + 1 {
		select {
		case ok := <-answers:
			if ok {
				known++
			}
		case <-ctx.Done():
			t.Fatal("somebody is not answered")
		}
	}
	if known != maxLookups {
		t.Errorf("%d know it", known)
	}
}
