package bus

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"pushgate/api"
)

// Three replicas answer, and two of them lag behind what the leader has told of. Right behind the newest event nothing is missing all the same.
func TestFetchFromLaggingReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	nodes := startSlowCluster(t, 3, 2*time.Millisecond)
	first := openStream(t, nodes[0].ClientURL())
	js := newJetStream(t, nodes[0].ClientURL())
	eventually(t, "the stream has three copies", func() bool { return first.stream.open(t.Context()) == nil && live(t, js, testStream) == 3 })
	// Servers ask their own replica: one bus at each.
	buses := []*Bus{first, openStream(t, nodes[1].ClientURL()), openStream(t, nodes[2].ClientURL())}
	var leader *server.Server
	id := ""
	eventually(t, "the leader is known", func() bool {
		leader = streamLeader(t, nodes)
		st, err := first.stream.info(t.Context())
		id = st.ID
		return err == nil && st.Leader == leader.Name()
	})

	// The reader knows what is stored by the leader's own republished copies.
	reader := connect(t, leader.ClientURL())
	copies := make(chan *nats.Msg, 100_000)
	if _, err := reader.ChanSubscribe("pushed.>", copies); err != nil {
		t.Fatal(err)
	}
	if err := reader.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writing sync.WaitGroup
	defer func() { close(stop); writing.Wait() }()
	window := make(chan struct{}, 64) // published and not yet seen
	writer := connect(t, leader.ClientURL())
	writing.Go(func() {
		for n := 0; ; n++ {
			select {
			case window <- struct{}{}:
			case <-stop:
				return
			}
			if err := writer.Publish(fmt.Sprintf("push.user.%d", n%7), fmt.Append(nil, n)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wants := make(map[string][]uint64) // by subject
	var last, lagged uint64
	subject := ""
	see := func(m *nats.Msg) {
		seq := number(m.Header, "Nats-Sequence")
		if seq != last+1 {
			clear(wants) // another leader: copies went with the old one, and nobody knows of which subjects
		}
		last = seq
		subject = strings.TrimPrefix(m.Subject, "pushed.")
		wants[subject] = append(wants[subject], last)
		select {
		case <-window:
		default: // it was opened
		}
	}
	next := func() *nats.Msg {
		for range 12 {
			select {
			case m := <-copies:
				return m
			case <-time.After(5 * time.Second):
				// What was published without a leader is gone. The window opens again.
				for len(window) > 0 {
					<-window
				}
			}
		}
		t.Fatal("no copies come")
		return nil
	}
	began := time.Now()
	for n := 0; n < 500 || lagged < 10; n++ {
		// A slow machine reads less, but until replicas have lagged often enough.
		if took := time.Since(began); took > patience && lagged >= 10 || took > 3*patience {
			break
		}
		see(next())
		for more := true; more; {
			select {
			case m := <-copies:
				see(m)
			default:
				more = false
			}
		}
		want := wants[subject]
		want = want[max(len(want)-5, 0):]
		r := api.Fetch{Stream: id, Subjects: []string{subject}, After: want[0] - 1, Through: last, Bytes: 1 << 20, Last: n%4 == 3}
		if r.Last {
			want = want[len(want)-1:]
		}
		p, err := fetch(t, buses[n%3], r)
		if err != nil || p.Through != last || p.Trimmed {
			t.Fatalf("%+v gives %+v, %v", r, p, err)
		}
		var got []uint64
		for _, e := range p.Events {
			got = append(got, e.Seq)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("read %d of %+v gives %v, want %v", n, r, got, want)
		}
		lagged = 0
		for _, b := range buses {
			lagged += b.FetchStats().Lagged
		}
	}
	for _, b := range buses {
		t.Logf("%+v", b.FetchStats())
	}
	if lagged < 10 {
		t.Errorf("a replica lagged only %d times: this test tests nothing", lagged)
	}
}

func streamLeader(tb testing.TB, nodes []*server.Server) *server.Server {
	tb.Helper()
	var leader *server.Server
	eventually(tb, "the stream has a leader", func() bool {
		for _, s := range nodes {
			if s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, "PUSH") {
				leader = s
			}
		}
		return leader != nil
	})
	return leader
}

// In a cluster events are stored three times, as soon as it can give that.
func TestStreamCopies(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	nodes := startCluster(t, 2)
	url := nodes[0].ClientURL()
	js := newJetStream(t, url)
	b, logs := streamBus(t, url, nil)
	eventually(t, "the stream is made", func() bool { return b.stream.open(t.Context()) == nil && copies(t, js, testStream) > 0 })
	if n := copies(t, js, testStream); n > 1 || logs.FilterMessage("events are stored in one copy: NATS cannot give three").Len() == 0 {
		t.Fatalf("two nodes give %d copies", n)
	}
	startNode(t, 2, nodes[0])
	slow := false
	eventually(t, "a later start finds three nodes", func() bool {
		began := time.Now()
		err := b.stream.open(t.Context())
		slow = slow || time.Since(began) >= openWithin
		return err == nil && copies(t, js, testStream) == 3
	})
	// Who did not wait for the answer does not know.
	if n := logs.FilterMessage("events are stored in three copies now").Len(); n != 1 && (n != 0 || !slow) {
		t.Errorf("it was said %d times", n)
	}
}
