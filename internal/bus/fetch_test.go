package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"pushgate/api"
)

// fetch waits for a page.
func fetch(tb testing.TB, b *Bus, r api.Fetch) (api.Page, error) {
	tb.Helper()
	type answer struct {
		page api.Page
		err  error
	}
	got := make(chan answer, 2)
	b.Fetch(r, func(p api.Page, err error) { got <- answer{p, err} })
	select {
	case a := <-got:
		return a.page, a.err
	case <-time.After(2 * patience):
		tb.Fatal("a fetch is never done")
	}
	panic("unreachable")
}

// store publishes and waits until it is stored.
func store(tb testing.TB, js jetstream.JetStream, subject, data string, header ...string) uint64 {
	tb.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(data)
	for i := 0; i < len(header); i += 2 {
		m.Header.Add(header[i], header[i+1])
	}
	ack, err := js.PublishMsg(tb.Context(), m)
	if err != nil {
		tb.Fatal(err)
	}
	return ack.Sequence
}

func identity(tb testing.TB, b *Bus) string {
	tb.Helper()
	st, err := state(tb, b)
	if err != nil {
		tb.Fatal(err)
	}
	return st.ID
}

// state asks once, and waits longer for the answer than a gateway would.
func state(tb testing.TB, b *Bus) (streamState, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	return b.stream.info(ctx)
}

// show is events as one line.
func show(events []api.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, fmt.Sprintf("%d:%s=%s", e.Seq, e.Subject, e.Data))
	}
	return strings.Join(all, " ")
}

func TestFetch(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	b := openStream(t, s.ClientURL())
	js := newJetStream(t, s.ClientURL())
	store(t, js, "push.user.alice", "1", "Nats-Msg-Id", "m-1", "Content-Type", "text/plain")
	store(t, js, "push.user.bob", "2")
	store(t, js, "push.broadcast", "")
	store(t, js, "push.user.alice", "4")
	last := store(t, js, "push.rooms.1.topic", "5")
	id := identity(t, b)
	for _, tt := range []struct {
		after, through uint64
		subjects, want string
	}{
		{0, 5, "user.alice", "1:user.alice=1 4:user.alice=4"},
		{1, 5, "user.alice", "4:user.alice=4"},
		{1, 3, "user.alice", ""},
		{4, 5, "user.alice", ""},
		{5, 5, "user.alice", ""},
		{0, 5, "user.carol", ""},
		{0, 5, "", ""},
		{0, 5, "user.alice broadcast", "1:user.alice=1 3:broadcast= 4:user.alice=4"},
		{0, 5, "user.* user.alice > user.alice", "1:user.alice=1 2:user.bob=2 3:broadcast= 4:user.alice=4 5:rooms.1.topic=5"},
		{0, 5, "*.alice user.* rooms.>", "1:user.alice=1 2:user.bob=2 4:user.alice=4 5:rooms.1.topic=5"},
	} {
		r := api.Fetch{Stream: id, Subjects: strings.Fields(tt.subjects), After: tt.after, Through: tt.through, Bytes: 1 << 20}
		p, err := fetch(t, b, r)
		if err != nil || show(p.Events) != tt.want || p.Through != tt.through || p.Trimmed {
			t.Errorf("%+v gives %s through %d, %v, %v", r, show(p.Events), p.Through, p.Trimmed, err)
		}
	}
	p, err := fetch(t, b, api.Fetch{Stream: id, Subjects: []string{"user.alice"}, Through: last, Bytes: 1})
	if err != nil || len(p.Events) != 1 || p.Through < 1 || p.Through > 3 {
		t.Fatalf("a page of one byte is %+v, %v", p, err)
	}
	e := p.Events[0]
	if e.ID != "m-1" || e.Format != api.FormatText || e.Cursor != id+".1" || time.Since(e.Time) > time.Hour || e.Reply != "" {
		t.Errorf("the event is %+v", e)
	}
}

func TestFetchRefuses(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	js := newJetStream(t, s.ClientURL())
	b := openStream(t, s.ClientURL())
	store(t, js, "push.a", "1")
	id := identity(t, b)
	for _, tt := range []struct {
		r    api.Fetch
		want error
	}{
		{api.Fetch{Stream: "other", Subjects: []string{"a"}, Through: 1}, api.ErrOtherStream},
		{api.Fetch{Stream: "other", Subjects: []string{"a"}, Through: 1, Last: true}, api.ErrOtherStream},
		{api.Fetch{Stream: id, Subjects: []string{"a..b"}, Through: 1}, nil},
	} {
		if _, err := fetch(t, b, tt.r); err == nil || tt.want != nil && err != tt.want {
			t.Errorf("%+v gives %v", tt.r, err)
		}
	}

	// Made anew while a page of the old one is known.
	if err := js.DeleteStream(t.Context(), "PUSH"); err != nil {
		t.Fatal(err)
	}
	r := api.Fetch{Stream: id, Subjects: []string{"a"}, Through: 1}
	if _, err := fetch(t, b, r); !errors.Is(err, ErrStreamMissing) {
		t.Errorf("without the stream: %v", err)
	}
	awaitCleared(t, s)
	if err := b.stream.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	store(t, js, "push.a", "1")
	if p, err := fetch(t, b, r); err != api.ErrOtherStream {
		t.Errorf("from another stream: %+v, %v", p, err)
	}
	if n := b.FetchStats().Errors; n != 4 {
		t.Errorf("%d errors are counted", n)
	}

	none, _ := openBus(t, s.ClientURL(), false)
	if _, err := fetch(t, none, r); err != ErrNoStream {
		t.Errorf("without a stream: %v", err)
	}
}

// What the stream has forgotten is told, whatever made it forget.
func TestFetchTrimmed(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	js := newJetStream(t, s.ClientURL())
	b := openStream(t, s.ClientURL())
	id := identity(t, b)
	for n := range 10 {
		store(t, js, "push.a", fmt.Sprint(n))
	}
	found, err := js.Stream(t.Context(), "PUSH")
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Purge(t.Context(), jetstream.WithPurgeSequence(4)); err != nil {
		t.Fatal(err)
	}
	check := func(after uint64, trimmed bool) {
		t.Helper()
		p, err := fetch(t, b, api.Fetch{Stream: id, Subjects: []string{"b"}, After: after, Through: 10, Bytes: 1000})
		if err != nil || p.Trimmed != trimmed || p.Through != 10 {
			t.Errorf("after %d: %+v, %v", after, p, err)
		}
	}
	check(2, true)
	check(3, false)
	cfg := found.CachedInfo().Config
	cfg.MaxAge, cfg.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything is too old", func() bool {
		st, err := state(t, b)
		return err == nil && st.Messages == 0
	})
	check(3, true)
	check(9, true)
	check(10, false)
	p, err := fetch(t, b, api.Fetch{Stream: id, Subjects: []string{"a"}, Through: 10, Last: true})
	if err != nil || p.Trimmed || len(p.Events) != 0 {
		t.Errorf("the last of nothing is %+v, %v", p, err)
	}
}

func TestFetchLast(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	js := newJetStream(t, s.ClientURL())
	b := openStream(t, s.ClientURL())
	id := identity(t, b)
	for _, subject := range []string{"a", "b", "u.1", "u.2", "a", "u.1", "b", "a"} {
		store(t, js, "push."+subject, subject)
	}
	for _, tt := range []struct {
		after, through uint64
		subjects, want string
	}{
		{0, 8, "a", "8:a=a"},
		{0, 7, "a", "5:a=a"},
		{0, 8, "a b none", "7:b=b 8:a=a"},
		{0, 8, "u.*", "4:u.2=u.2 6:u.1=u.1"},
		{0, 5, "u.* u.1 >", "2:b=b 3:u.1=u.1 4:u.2=u.2 5:a=a"},
		{4, 8, "u.*", "6:u.1=u.1"},
		{0, 8, "none", ""},
		{0, 8, "", ""},
	} {
		p, err := fetch(t, b, api.Fetch{Stream: id, Subjects: strings.Fields(tt.subjects), After: tt.after, Through: tt.through, Bytes: 1, Last: true})
		if err != nil || show(p.Events) != tt.want || p.Through != tt.through {
			t.Errorf("%s after %d through %d gives %s, %v", tt.subjects, tt.after, tt.through, show(p.Events), err)
		}
	}

	big := strings.Repeat("x", 4000)
	var last uint64
	for n := range 1024 {
		last = store(t, js, fmt.Sprintf("push.many.%d", n), big)
	}
	r := api.Fetch{Stream: id, Subjects: []string{"many.*"}, Through: last, Last: true}
	if p, err := fetch(t, b, r); err != nil || len(p.Events) != 1024 || p.Events[0].Subject != "many.0" {
		t.Errorf("%d subjects, %v", len(p.Events), err)
	}
	r.Through = store(t, js, "push.many.more", big)
	if _, err := fetch(t, b, r); err != api.ErrTooMany {
		t.Errorf("1025 subjects give %v", err)
	}
	for n := range 20 {
		r.Through = store(t, js, fmt.Sprintf("push.huge.%d", n), strings.Repeat("x", 1000*1000))
	}
	r.Subjects = []string{"huge.*"}
	if _, err := fetch(t, b, r); !errors.Is(err, api.ErrTooMany) {
		t.Errorf("20 MB give %v", err)
	}
}

// A publisher writes the headers that are the server's, and statuses, and what
// nobody can read.
func TestFetchForged(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	js := newJetStream(t, s.ClientURL())
	b := openStream(t, s.ClientURL())
	id := identity(t, b)
	forged := []string{
		"Nats-Stream", "OTHER", "Nats-Subject", "push.user.bob", "Nats-Sequence", "999", "Nats-Last-Sequence", "x",
		"Nats-Time-Stamp", "1999-01-01T00:00:00Z", "Nats-Num-Pending", "77", "Status", "204", "Description", "EOB",
	}
	store(t, js, "push.user.alice", "1", forged...)
	raw(t, s.Addr().String(), "HPUB push.user.alice 19 20\r\nNATS/1.0 404 No\r\n\r\n2\r\n")
	raw(t, s.Addr().String(), "HPUB push.user.alice 17 18\r\nNATS/1.0\r\nbad\r\n\r\n3\r\n")
	last := store(t, js, "push.user.alice", "4", forged...)
	if last != 4 {
		t.Fatalf("the last one is %d", last)
	}
	for _, last := range []bool{false, true} {
		p, err := fetch(t, b, api.Fetch{Stream: id, Subjects: []string{"user.alice"}, Through: 4, Bytes: 1000, Last: last})
		want := "1:user.alice=1 2:user.alice=2 4:user.alice=4"
		if last {
			want = "4:user.alice=4"
		}
		if err != nil || show(p.Events) != want || time.Since(p.Events[0].Time) > time.Hour {
			t.Errorf("got %s, %v", show(p.Events), err)
		}
		p, err = fetch(t, b, api.Fetch{Stream: id, Subjects: []string{"user.bob"}, Through: 4, Bytes: 1000, Last: last})
		if err != nil || len(p.Events) != 0 {
			t.Errorf("for another there is %s, %v", show(p.Events), err)
		}
	}
	for from := uint64(1); from <= 4; from++ {
		e, seq, err := b.fetcher.leaderNext(t.Context(), id, "user.alice", from, 4)
		if err != nil || seq != from || (e == nil) != (from == 3) || e != nil && (e.Seq != from || e.Cursor != fmt.Sprint(id, ".", from)) {
			t.Errorf("the leader's event %d is %+v at %d, %v", from, e, seq, err)
		}
	}
	if st := b.FetchStats(); st.Forged == 0 || st.Unreadable == 0 {
		t.Errorf("counted %+v", st)
	}
}

// Equal reads that are under way at the same time are one at the server.
func TestFetchShared(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	js := newJetStream(t, s.ClientURL())
	b := openStream(t, s.ClientURL())
	id := identity(t, b)
	last := store(t, js, "push.a", "1")
	nc := connect(t, s.ClientURL())
	direct := listen(t, nc, "$JS.API.DIRECT.GET.PUSH")
	leader, info := listen(t, nc, "$JS.API.STREAM.MSG.GET.PUSH"), listen(t, nc, "$JS.API.STREAM.INFO.PUSH")
	// seen is how many requests of a kind the server has had.
	seen := func(sub *nats.Subscription) int {
		t.Helper()
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		n, _, err := sub.Pending()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := fetch(t, b, api.Fetch{Stream: id, Subjects: []string{"none"}, Through: last}); err != nil { // the leader has it
		t.Fatal(err)
	}
	directs, leaders, infos := seen(direct), seen(leader), seen(info)
	if directs == 0 || leaders == 0 || infos == 0 {
		t.Fatalf("of the first fetch %d, %d and %d requests were seen", directs, leaders, infos)
	}
	for range maxRequests {
		b.fetcher.slots <- struct{}{}
	}
	const many = maxBuilding - 4
	done := make(chan error, many)
	for range many {
		b.Fetch(api.Fetch{Stream: id, Subjects: []string{"b"}, Through: last, Bytes: 3000}, func(_ api.Page, err error) { done <- err })
	}
	eventually(t, "all wait for one", func() bool { return b.FetchStats().Shared == many-1 })
	for range maxRequests {
		<-b.fetcher.slots
	}
	for range many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// One of each, and a few for the state; again what a slow server has not
	// answered in time. Each for itself would make many.
	for kind, n := range map[string]int{
		"a direct get": seen(direct) - directs, "the leader": seen(leader) - leaders, "the state": seen(info) - infos,
	} {
		if n < 1 || n > many/4 {
			t.Errorf("%d requests for %s", n, kind)
		}
	}
}

// Requests to NATS are bounded, and turns are taken in order.
func TestFetchBounds(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	b := openStream(t, s.ClientURL())
	last := store(t, newJetStream(t, s.ClientURL()), "push.a", "1")
	id := identity(t, b)
	for range maxRequests {
		b.fetcher.slots <- struct{}{}
	}
	const many = 300
	done := make(chan int, many)
	for n := range many {
		b.Fetch(api.Fetch{Stream: id, Subjects: []string{fmt.Sprint("s", n)}, Through: last, Bytes: maxPage},
			func(api.Page, error) {
				// Answers come as they come. Who waits yet is always the last ones.
				f := b.fetcher
				f.mu.Lock()
				for i, x := range f.queue {
					if want := fmt.Sprint("s", many-len(f.queue)+i); x.Subjects[0] != want {
						t.Errorf("after %d %s waits where %s should", n, x.Subjects[0], want)
						break
					}
				}
				f.mu.Unlock()
				done <- n
			})
	}
	const turns = maxPages / (2 * maxPage)
	if n := b.FetchStats().Waiting; n != many-turns {
		t.Errorf("%d wait for their turn, want %d", n, many-turns)
	}
	for range maxRequests {
		<-b.fetcher.slots
	}
	told := make(map[int]int)
	for range many {
		told[<-done]++
	}
	if len(told) != many {
		t.Errorf("%d of %d were told", len(told), many)
	}
}

// A restart of the server in the middle of a chain costs time only.
func TestFetchOverRestart(t *testing.T) {
	dir := storeDir(t)
	s := startJetStream(t, 0, dir)
	port := portOf(t, s)
	b := openStream(t, s.ClientURL())
	js := newJetStream(t, s.ClientURL())
	id := identity(t, b)
	var want []string
	for n := range 60 {
		want = append(want, fmt.Sprintf("%d:a=%d", store(t, js, "push.a", fmt.Sprint(n)), n))
	}
	var got []string
	r := api.Fetch{Stream: id, Subjects: []string{"a", "b"}, Through: 60, Bytes: 20}
	for r.After < r.Through {
		if len(got) > 20 && s != nil {
			s.Shutdown()
			s.WaitForShutdown()
			s = nil
			eventually(t, "the bus notices", func() bool { return !b.Connected() })
			back := make(chan struct{})
			defer func() { <-back }()
			go func() {
				defer close(back)
				startJetStream(t, port, dir)
			}()
		}
		p, err := fetch(t, b, r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.Fields(show(p.Events))...)
		r.After = p.Through
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	eventually(t, "the server is up", b.Connected)
}

// Closing fails what is under way and what waits, once each.
func TestFetchClose(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	b := openStream(t, s.ClientURL())
	id := identity(t, b)
	const many = 200
	var closed atomic.Int64
	for n := range many {
		// Nobody has reached that far.
		b.Fetch(api.Fetch{Stream: id, Subjects: []string{fmt.Sprint("s", n)}, Through: 1000}, func(_ api.Page, err error) {
			if err == errClosed {
				closed.Add(1)
			}
		})
	}
	b.Close()
	if n := closed.Load(); n != many {
		t.Errorf("%d of %d were told", n, many)
	}
	if _, err := fetch(t, b, api.Fetch{Stream: id, Through: 1}); err != errClosed {
		t.Errorf("after the end: %v", err)
	}

	cfg := pushStream
	never, err := New(Config{Options: Options{URL: s.ClientURL()}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash", stream: &cfg})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	never.Fetch(api.Fetch{Through: 1}, func(_ api.Page, err error) { got <- err })
	never.Close()
	if err := <-got; err != errClosed {
		t.Errorf("without a start: %v", err)
	}
}

// raw sends what a client library would not, and waits for the server's answer.
func raw(tb testing.TB, address, text string) {
	tb.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprint(conn, `CONNECT {"headers":true,"verbose":false,"protocol":1}`+"\r\n"+text+"PING\r\n"); err != nil {
		tb.Fatal(err)
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "PONG":
			return
		case strings.HasPrefix(line, "-ERR"):
			tb.Fatal(line)
		}
	}
	tb.Fatal("the server says nothing")
}
