package bus

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// startJetStream runs a server that keeps streams in dir.
func startJetStream(tb testing.TB, port int, dir string) *server.Server {
	tb.Helper()
	return startServer(tb, &server.Options{Port: port, JetStream: true, StoreDir: dir})
}

// awaitCleared waits until the server has removed the files of deleted streams,
// which it does behind its answer: until then it may fail to delete, or to make,
// another stream of the same name.
func awaitCleared(tb testing.TB, s *server.Server) {
	tb.Helper()
	eventually(tb, "deleted streams are off the disk", func() bool {
		left, err := filepath.Glob(filepath.Join(s.StoreDir(), "*", "streams", ".*"))
		return err == nil && len(left) == 0
	})
}

// openBucket looks at the bucket as an operator would.
func openBucket(tb testing.TB, url string) (jetstream.JetStream, jetstream.KeyValue) {
	tb.Helper()
	js := newJetStream(tb, url)
	bucket, err := js.KeyValue(tb.Context(), bucketName)
	if err != nil {
		tb.Fatal(err)
	}
	return js, bucket
}

// put stores a revocation from outside, so that only a watch can bring it.
func put(tb testing.TB, bucket jetstream.KeyValue, user string, issuedBefore int64) {
	tb.Helper()
	value := fmt.Sprintf(`{"issued_before":%d,"by":"a newer gateway"}`, issuedBefore)
	if _, err := bucket.Put(tb.Context(), bucketKey(user), []byte(value)); err != nil {
		tb.Fatal(err)
	}
}

func (g *gateway) awaitRevoked(tb testing.TB, user string, issuedBefore int64) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%s is revoked before %d", user, issuedBefore), func() bool {
		return g.sessions.before(user) == issuedBefore
	})
}

// revoke asks all gateways, and all must store it.
func revoke(tb testing.TB, url, user string, issuedBefore int64, gateways int) {
	tb.Helper()
	request := fmt.Sprintf(`{"user":%q,"issued_before":%d}`, user, issuedBefore)
	for name, r := range askAll(tb, connect(tb, url), "revoke", request, gateways) {
		if r.Stored == nil || !*r.Stored || r.Warning != "" {
			tb.Errorf("%s answers %+v", name, r)
		}
	}
}

func TestRevokeReachesEveryGateway(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	url := s.ClientURL()
	a, b := openGateway(t, url, "a", nil), openGateway(t, url, "b", nil)
	nc := connect(t, url)
	began := time.Now()
	all := askAll(t, nc, "revoke", `{"user":"one/alice"}`, 2)
	now := time.Now()
	if took := now.Sub(began); took > promptly {
		t.Errorf("that took %s", took)
	}
	for _, g := range []*gateway{a, b} {
		if at := g.sessions.before("one/alice"); at <= began.Unix() || at > now.Unix()+1 {
			t.Errorf("revoked before %d, from %d to %d", at, began.Unix(), now.Unix())
		}
	}
	// One of them closed the two sessions when it was asked, or when it saw
	// that the other had stored it.
	for name, r := range all {
		if r.Disconnected != 2 && r.Disconnected != 0 || r.Stored == nil || !*r.Stored {
			t.Errorf("%s answers %+v", name, r)
		}
	}
	revoke(t, url, "bob", 1000, 2)

	late := openGateway(t, url, "late", nil)
	// Loaded means that they are known now.
	if late.sessions.before("bob") != 1000 || late.sessions.before("one/alice") == 0 {
		t.Error("a gateway that starts later does not know what was revoked")
	}
	st := late.Stats()
	if st.Revocations != 2 || !st.RevocationsStored {
		t.Errorf("got %+v", st)
	}
	_, bucket := openBucket(t, url)
	put(t, bucket, "carol", 7)
	for _, g := range []*gateway{a, b, late} {
		g.awaitRevoked(t, "carol", 7)
	}
}

func TestRevocationsAfterNATSRestarts(t *testing.T) {
	dir := storeDir(t)
	s := startJetStream(t, 0, dir)
	port, url := portOf(t, s), s.ClientURL()
	a, b := openGateway(t, url, "a", nil), openGateway(t, url, "b", nil)
	revoke(t, url, "alice", 1000, 2)
	for n := range int64(2) {
		s.Shutdown()
		s.WaitForShutdown()
		for _, g := range []*gateway{a, b} {
			eventually(t, "the outage is noticed", func() bool { return !g.Connected() && !g.Stats().RevocationsStored })
			g.sessions.forget()
		}
		s = startJetStream(t, port, dir)
		_, bucket := openBucket(t, url)
		put(t, bucket, "bob", 2000+n)
		for _, g := range []*gateway{a, b} {
			g.awaitRevoked(t, "alice", 1000)
			g.awaitRevoked(t, "bob", 2000+n)
			eventually(t, "the bucket is watched", func() bool { return g.Stats().RevocationsStored })
		}
		revoke(t, url, "carol", 3000+n, 2)
		put(t, bucket, "dave", 4000+n)
		a.awaitRevoked(t, "dave", 4000+n)
		b.awaitRevoked(t, "dave", 4000+n)
	}
}

// quick looks at the bucket more often than a gateway would.
func quick(r *revocations) {
	r.pace.check, r.pace.absent = 20*time.Millisecond, 20*time.Millisecond
}

// A bucket that is deleted comes back, and one that was made anew behind the
// watcher's back is noticed: its sequences begin again below the watcher's.
func TestBucketIsLost(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	url := s.ClientURL()
	g := openGateway(t, url, "a", quick)
	for n := range int64(10) {
		revoke(t, url, fmt.Sprint("user", n), 1, 1)
	}
	js, _ := openBucket(t, url)
	if err := js.DeleteKeyValue(t.Context(), bucketName); err != nil {
		t.Fatal(err)
	}
	awaitCleared(t, s)
	var bucket jetstream.KeyValue
	eventually(t, "the bucket is there again", func() bool {
		var err error
		bucket, err = js.KeyValue(t.Context(), bucketName)
		return err == nil
	})
	put(t, bucket, "alice", 1000)
	g.awaitRevoked(t, "alice", 1000)
	eventually(t, "it is counted", func() bool { st := g.Stats(); return st.Revocations == 1 && st.RevocationsStored })
	g.Close()

	// This one looks when it is told to, so that it does not make the bucket first.
	g = openGateway(t, url, "b", func(r *revocations) { r.pace.check = time.Hour })
	for n := range int64(10) {
		revoke(t, url, fmt.Sprint("user", n), 2, 1)
	}
	if err := js.DeleteKeyValue(t.Context(), bucketName); err != nil {
		t.Fatal(err)
	}
	awaitCleared(t, s)
	eventually(t, "the bucket is made anew", func() bool {
		var err error
		bucket, err = js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucketName})
		return err == nil
	})
	put(t, bucket, "bob", 2000)
	g.control.known.look()
	g.awaitRevoked(t, "bob", 2000)
}

func TestWithoutJetStream(t *testing.T) {
	s := startNATS(t, 0)
	g := openGateway(t, s.ClientURL(), "a", quick)
	const warning = "revocations hold on the gateways that run now and are forgotten when they restart"
	nc := connect(t, s.ClientURL())
	r := askAll(t, nc, "revoke", `{"user":"alice"}`, 1)["a"]
	if r.Stored == nil || *r.Stored || r.Disconnected != 2 ||
		r.Warning != "the revocation is not stored, so it holds only on gateways that run now, until they restart: NATS has no JetStream" {
		t.Errorf("got %+v", r)
	}
	if g.Stats().RevocationsStored {
		t.Error("revocations are stored nowhere")
	}
	if err := s.EnableJetStream(&server.JetStreamConfig{StoreDir: storeDir(t)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "JetStream is found", func() bool { return g.Stats().RevocationsStored })
	if n := g.logged(warning); n != 1 {
		t.Errorf("the warning came %d times", n)
	}
	eventually(t, "the end of it is told", func() bool { return g.logged("revocations are kept in NATS") > 0 })
	revoke(t, s.ClientURL(), "alice", time.Now().Unix(), 1)
	if n := g.logged("revocations are kept in NATS"); n != 1 {
		t.Errorf("the end of it was told %d times", n)
	}
}

// Where the bucket cannot be had for another reason, a gateway does not wait
// for ever.
func TestRevocationsCannotBeRead(t *testing.T) {
	s := startServer(t, &server.Options{JetStream: true, StoreDir: storeDir(t), Users: []*server.User{{
		Username: "u", Password: "p",
		Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}},
	}}})
	url := strings.Replace(s.ClientURL(), "://", "://u:p@", 1)
	g := newGateway(t, url, "a", func(r *revocations) { r.pace.giveUp = 100 * time.Millisecond })
	eventually(t, "connected", g.EverConnected)
	connected := time.Now()
	eventually(t, "it gives up", g.RevocationsLoaded)
	if took := time.Since(connected); took > promptly { // and not when NATS has had all its time
		t.Errorf("that took %s", took)
	}
	r := askAll(t, connect(t, url), "revoke", `{"user":"alice"}`, 1)["a"]
	if r.Stored == nil || *r.Stored || !strings.HasSuffix(r.Warning, "the bucket pushgate_revocations is not open yet") {
		t.Errorf("got %+v", r)
	}
	eventually(t, "it is logged", func() bool { return g.logged("stored revocations could not be read") > 0 })
	if n := g.logged("stored revocations could not be read"); n != 1 || g.Stats().RevocationsStored {
		t.Errorf("it is logged %d times", n)
	}
}

// link is the way of one gateway to NATS, which can be cut.
type link struct {
	net.Listener
	to string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	all   sync.WaitGroup
}

func newLink(tb testing.TB, to *server.Server) *link {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	k := &link{Listener: l, to: to.Addr().String()}
	k.all.Go(k.run)
	tb.Cleanup(func() {
		_ = l.Close()
		k.set(true)
		k.all.Wait()
	})
	return k
}

func (k *link) run() {
	for {
		in, err := k.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", k.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		if !k.keep(in, out) {
			_ = in.Close()
			_ = out.Close()
			continue
		}
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			k.all.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_ = way[0].Close()
			})
		}
	}
}

// keep notes connections, which set then closes. It is false while cut.
func (k *link) keep(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.cut {
		k.conns = append(k.conns, conns...)
	}
	return !k.cut
}

func (k *link) set(cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = cut
	if cut {
		for _, conn := range k.conns {
			_ = conn.Close()
		}
		k.conns = nil
	}
}

func TestRevokedWhileAway(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	way := newLink(t, s)
	openGateway(t, s.ClientURL(), "a", nil)
	b := openGateway(t, "nats://"+way.Addr().String(), "b", nil)
	revoke(t, s.ClientURL(), "alice", 1000, 2)
	way.set(true)
	eventually(t, "b is away", func() bool { return !b.Connected() })
	revoke(t, s.ClientURL(), "alice", 2000, 1)
	if b.sessions.before("alice") != 1000 {
		t.Error("b was not away")
	}
	way.set(false)
	b.awaitRevoked(t, "alice", 2000)
}
