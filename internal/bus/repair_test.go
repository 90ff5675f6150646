package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"pushgate/api"
)

// publishing stores n events on several subjects at a rate, and calls at before
// each.
func publishing(tb testing.TB, nc *nats.Conn, n int, at func(i int)) {
	tb.Helper()
	js := jetStreamOn(tb, nc, jetstream.WithPublishAsyncMaxPending(256))
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for i := range n {
		if i%10 == 0 {
			<-tick.C // 2,500 a second
		}
		at(i)
		if _, err := js.PublishAsync(fmt.Sprintf("push.user.u%d", i%7), fmt.Append(nil, i), jetstream.WithStallWait(patience)); err != nil {
			tb.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		tb.Fatal("the events are not stored")
	}
}

func TestGapWhileCutOff(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	p := startProxy(t, s.Addr().String())
	id := stateOf(makeStream(t, s.ClientURL(), 1)).ID
	nc := connect(t, s.ClientURL())
	d := openDurable(t, p.url(), nil, nil)
	d.awaitReady(t)

	gate := make(chan struct{})
	d.archive.gate.Store(&gate)
	publishing(t, nc, 5000, func(i int) {
		switch i {
		case 500, 1800:
			p.cut()
		case 900, 2600:
			p.mend()
		}
	})
	eventually(t, "the repair has begun", func() bool { return d.Connected() && d.archive.fetches.Load() > 0 })
	publish(t, nc, "user.u1", 1)
	eventually(t, "a newer event waits", func() bool { return d.Stats().Stream.Waiting > 0 })
	if err := nc.Publish("flash.user.u1", []byte("now")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a flash event does not wait", func() bool {
		return slices.ContainsFunc(d.all(), func(e api.Event) bool { return e.Seq == 0 })
	})
	if n := d.lastSeq(); n >= 5001 {
		t.Error("the newer event did not wait")
	}
	close(gate)
	d.awaitSeq(t, 5001)
	publish(t, nc, "user.u1", 1)
	d.awaitSeq(t, 5002)
	checkRow(t, d.stored(), id, 1, 5002)
	eventually(t, "nothing waits", func() bool { return d.Stats().Stream.Waiting == 0 })
	st := d.Stats().Stream
	if st.Repaired == 0 || st.Lost != 0 || len(d.positions()) != 1 {
		t.Errorf("got %+v and %v", st, d.positions())
	}
}

// A gap that shows while the connection stands is repaired without a look.
func TestGapWhileConnected(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	p := startProxy(t, s.Addr().String())
	id := stateOf(makeStream(t, s.ClientURL(), 1)).ID
	nc := connect(t, s.ClientURL())
	d := openDurable(t, p.url(), nil, func(s *sequence) { s.pace.look = time.Hour })
	d.awaitReady(t)
	eventually(t, "the second look is over", func() bool { return d.Stats().Stream.Looks >= 2 })

	n := 0
	p.drop(func(subject string) bool {
		if subject == "pushed.a" {
			n++
		}
		return subject == "pushed.a" && n%10 < 3 && n%100 != 0
	})
	publish(t, nc, "a", 400)
	d.awaitSeq(t, 400)
	checkRow(t, d.stored(), id, 1, 400)
	if st := d.Stats().Stream; st.Gaps == 0 || st.Repaired == 0 {
		t.Errorf("got %+v", st)
	}
}

// A stored event whose copy is lost, with none behind it to show the gap.
func TestTail(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	p := startProxy(t, s.Addr().String())
	id := stateOf(makeStream(t, s.ClientURL(), 1)).ID
	nc := connect(t, s.ClientURL())
	d := openDurable(t, p.url(), nil, nil)
	d.awaitReady(t)
	eventually(t, "the second look is over", func() bool { return d.Stats().Stream.Looks >= 2 })
	publish(t, nc, "a", 3)
	d.awaitSeq(t, 3)
	before := d.Stats().Stream.Repaired // none, but where the copies were slow
	p.drop(func(subject string) bool { return subject == "pushed.a" })
	began := time.Now()
	publish(t, nc, "a", 2)
	d.awaitSeq(t, 5)
	if took := time.Since(began); took > promptly {
		t.Errorf("that took %s", took)
	}
	checkRow(t, d.stored(), id, 1, 5)
	eventually(t, "they are counted", func() bool { return d.Stats().Stream.Repaired >= before+2 })
	if st := d.Stats().Stream; st.Gaps != 0 {
		t.Errorf("got %+v", st)
	}
}

func TestServerRestarts(t *testing.T) {
	dir := storeDir(t)
	s := startJetStream(t, 0, dir)
	id := stateOf(makeStream(t, s.ClientURL(), 1)).ID
	port := portOf(t, s)
	d := openDurable(t, s.ClientURL(), nil, nil)
	d.awaitReady(t)
	for n := uint64(1); n <= 3; n++ {
		nc := connect(t, s.ClientURL())
		publish(t, nc, "a", 50)
		d.awaitSeq(t, 100*n-50)
		s.Shutdown()
		s.WaitForShutdown()
		eventually(t, "the outage is noticed", func() bool { return !d.Connected() })
		s = startJetStream(t, port, dir)
		publish(t, connect(t, s.ClientURL()), "a", 50) // perhaps before the bus is back
		d.awaitSeq(t, 100*n)
	}
	checkRow(t, d.stored(), id, 1, 300)
	if at, lost := d.positions(), d.losses(); len(at) != 1 || len(lost) != 0 {
		t.Errorf("streams %v, lost %v", at, lost)
	}
}

func TestPurgedWhileCutOff(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	p := startProxy(t, s.Addr().String())
	stream := makeStream(t, s.ClientURL(), 1)
	nc := connect(t, s.ClientURL())
	d := openDurable(t, p.url(), nil, nil)
	d.awaitReady(t)
	publish(t, nc, "a", 10)
	d.awaitSeq(t, 10)

	p.cut()
	eventually(t, "the cut is noticed", func() bool { return !d.Connected() })
	publish(t, nc, "a", 10)
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, nc, "a", 5)
	p.mend()
	d.awaitSeq(t, 25)
	publish(t, nc, "a", 1)
	d.awaitSeq(t, 26)
	if lost := d.losses(); !slices.Equal(lost, []uint64{20}) {
		t.Errorf("lost %v", lost)
	}
	id := stateOf(stream).ID
	checkRow(t, d.stored()[:10], id, 1, 10)
	checkRow(t, d.stored()[10:], id, 21, 26)

	// All of what was missed is gone.
	p.cut()
	eventually(t, "the cut is noticed", func() bool { return !d.Connected() })
	publish(t, nc, "a", 4)
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mend()
	eventually(t, "the loss is told", func() bool { return slices.Equal(d.losses(), []uint64{20, 30}) })
	publish(t, nc, "a", 1)
	d.awaitSeq(t, 31)
	checkRow(t, d.stored()[16:], id, 31, 31)
}

func TestMadeAnew(t *testing.T) {
	for _, cutOff := range []bool{false, true} {
		t.Run(fmt.Sprintf("cutOff=%v", cutOff), func(t *testing.T) {
			s := startJetStream(t, 0, storeDir(t))
			p := startProxy(t, s.Addr().String())
			url := s.ClientURL()
			nc := connect(t, url)
			js := jetStreamOn(t, nc)
			old := stateOf(makeStream(t, url, 1)).ID
			d := openDurable(t, p.url(), nil, nil)
			d.awaitReady(t)
			publish(t, nc, "a", 10)
			d.awaitSeq(t, 10)
			seen := 10
			// Fewer events than before, as many, and more.
			for round, n := range []int{4, 4, 30} {
				if cutOff {
					p.cut()
					eventually(t, "the cut is noticed", func() bool { return !d.Connected() })
				}
				if err := js.DeleteStream(t.Context(), testStream); err != nil {
					t.Fatal(err)
				}
				awaitCleared(t, s)
				id := stateOf(makeStream(t, url, 1)).ID
				if id == old {
					t.Fatal("the stream has the same identity")
				}
				publish(t, nc, "b", n)
				if cutOff {
					p.mend()
				}
				eventually(t, "the other stream's events come", func() bool {
					at := d.positions()
					return len(at) == round+2 && at[round+1] == api.Position{Stream: id} && len(d.stored()) >= seen+n
				})
				publish(t, nc, "b", 2)
				eventually(t, "newer events come", func() bool { return len(d.stored()) >= seen+n+2 })
				checkRow(t, d.stored()[seen:], id, 1, uint64(n+2))
				seen += n + 2
				old = id
			}
			if lost := d.losses(); len(lost) != 0 {
				t.Errorf("lost %v", lost)
			}
		})
	}
}

// After a connect nothing of the stream passes until it is known to be the same,
// be its sequence the very next.
func TestNothingPassesInDoubt(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	p := startProxy(t, s.Addr().String())
	nc := connect(t, s.ClientURL())
	js := jetStreamOn(t, nc)
	makeStream(t, s.ClientURL(), 1)
	d := openDurable(t, p.url(), nil, nil)
	d.awaitReady(t)
	publish(t, nc, "a", 10)
	d.awaitSeq(t, 10)

	p.cut()
	eventually(t, "the cut is noticed", func() bool { return !d.Connected() })
	if err := js.DeleteStream(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	awaitCleared(t, s)
	id := stateOf(makeStream(t, s.ClientURL(), 1)).ID
	publish(t, nc, "b", 10)
	shut := make(chan struct{})
	d.archive.shut.Store(&shut)
	p.mend()
	eventually(t, "the connection is back", func() bool { return d.Connected() && d.Flush(promptly) == nil })
	publish(t, nc, "b", 1)
	if err := nc.Publish("flash.b", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the flash event comes", func() bool { return len(d.all()) > 10 })
	if n := len(d.stored()); n != 10 {
		t.Errorf("%d stored events came", n)
	}
	close(shut)
	eventually(t, "the other stream's events come", func() bool { return len(d.stored()) >= 21 })
	checkRow(t, d.stored()[10:], id, 1, 11)
}

// A new leader that does not know its own end yet is no reason to give up what
// was handed on.
func TestStaleLeader(t *testing.T) {
	url := startJetStream(t, 0, storeDir(t)).ClientURL()
	id := stateOf(makeStream(t, url, 1)).ID
	nc := connect(t, url)
	// Between two looks it never takes so long that the end is taken for lost.
	d := openDurable(t, url, nil, atGaps)
	d.awaitReady(t)
	for n := uint64(1); n <= 3; n++ {
		publish(t, nc, "a", 10)
		d.awaitSeq(t, 10*n)
		d.archive.stale.Store(2)
		d.sequence.askLook()
		eventually(t, "the answers are given", func() bool { return d.archive.stale.Load() < 0 })
	}
	publish(t, nc, "a", 10)
	d.awaitSeq(t, 40)
	checkRow(t, d.stored(), id, 1, 40)
	if len(d.positions()) != 1 || len(d.losses()) != 0 {
		t.Errorf("streams %v, lost %v", d.positions(), d.losses())
	}
}

// Two leaders that do not know their end yet, with another error or an outage in
// between, are no store that has lost its end.
func TestStaleLeaders(t *testing.T) {
	archive := &toldArchive{}
	b, err := New(Config{
		Options: Options{URL: anyURL}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash",
		Durable: &Durable{Stream: testStream, RepublishPrefix: "pushed", archive: archive},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := &sink{}
	b.sink = got
	close(b.started)
	s := b.sequence
	look := func(last uint64, failure error) error {
		archive.last, archive.failure = last, failure
		s.lookAt = time.Time{}
		err := s.step()
		if err != nil {
			s.fail(err)
		}
		return err
	}
	if err := look(10, nil); err != nil {
		t.Fatal(err)
	}
	long := -2 * s.pace.look
	for name, between := range map[string]func(){
		"error": func() {
			if err := look(0, errAway); err != errAway {
				t.Fatal(err)
			}
		},
		"outage": func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.run()
			}()
			s.wake()
			eventually(t, "it waits for NATS", func() bool { return len(s.poke) == 0 })
			s.cancel()
			<-done
			s.ctx, s.cancel = context.WithCancel(context.Background())
		},
	} {
		if err := look(7, nil); err != errEndsLower {
			t.Fatalf("%s: a leader that does not know its end gives %v", name, err)
		}
		s.lower = s.lower.Add(long)
		between()
		if err := look(7, nil); err != errEndsLower || len(got.losses()) != 0 {
			t.Errorf("%s: the next one gives %v, lost %v", name, err, got.losses())
		}
		s.lower = time.Time{}
	}
	// One that says so all the time is believed.
	if err := look(7, nil); err != errEndsLower {
		t.Fatal(err)
	}
	s.lower = s.lower.Add(long)
	if err := look(7, nil); err != nil || !slices.Equal(got.losses(), []uint64{7}) {
		t.Errorf("after long it gives %v, lost %v", err, got.losses())
	}
	s.cancel()
}

// toldArchive says what it was told to, and holds nothing.
type toldArchive struct {
	last    uint64
	failure error
}

func (a *toldArchive) open(context.Context) error { return nil }

func (a *toldArchive) info(context.Context) (streamState, error) {
	return streamState{ID: "e1", First: 1, Last: a.last}, a.failure
}

func (a *toldArchive) fetch(context.Context, api.Fetch) (api.Page, error) {
	return api.Page{}, errNoProgress
}

// What cannot be fetched is lost after a while, and the rest goes on.
func TestPatienceEnds(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	p := startProxy(t, s.Addr().String())
	makeStream(t, s.ClientURL(), 1)
	nc := connect(t, s.ClientURL())
	d := openDurable(t, p.url(), nil, func(s *sequence) {
		atGaps(s)
		s.pace.patience = 300 * time.Millisecond
	})
	d.awaitReady(t)
	broken := errors.New("out of order")
	d.archive.failing.Store(&broken)
	p.drop(func(subject string) bool { return subject == "pushed.lost" })
	publish(t, nc, "a", 5)
	publish(t, nc, "lost", 5)
	publish(t, nc, "a", 5)
	eventually(t, "the loss is told", func() bool { return slices.Equal(d.losses(), []uint64{10}) })
	d.awaitSeq(t, 15)
	publish(t, nc, "a", 1)
	d.awaitSeq(t, 16)
	var got []uint64
	for _, e := range d.stored() {
		got = append(got, e.Seq)
	}
	if want := []uint64{1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// A copy that claims a sequence that does not exist costs nothing but a look.
func TestSequenceThatDoesNotExist(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	id := stateOf(makeStream(t, s.ClientURL(), 1)).ID
	nc := connect(t, s.ClientURL())
	d := openDurable(t, s.ClientURL(), nil, nil)
	d.awaitReady(t)
	for n := uint64(1); n <= 5; n++ {
		lie := &nats.Msg{Subject: "pushed.a", Header: nats.Header{
			"Nats-Stream": {testStream}, "Nats-Sequence": {"9000000000000000000"}, "Nats-Time-Stamp": {"2026-01-02T03:04:05Z"},
		}}
		if err := nc.PublishMsg(lie); err != nil {
			t.Fatal(err)
		}
		publish(t, nc, "a", 5)
		d.awaitSeq(t, 5*n)
	}
	checkRow(t, d.stored(), id, 1, 25)
	if len(d.positions()) != 1 || len(d.losses()) != 0 {
		t.Errorf("streams %v, lost %v", d.positions(), d.losses())
	}
}

// A store that comes back without its end gives the same sequences again, to
// other events.
func TestStoreLosesItsEnd(t *testing.T) {
	dir, backup := storeDir(t), storeDir(t)
	s := startJetStream(t, 0, dir)
	port, url := portOf(t, s), s.ClientURL()
	id := stateOf(makeStream(t, url, 1)).ID
	publish(t, connect(t, url), "a", 10)
	s.Shutdown()
	s.WaitForShutdown()
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}

	s = startJetStream(t, port, dir)
	d := openDurable(t, url, nil, func(s *sequence) { s.pace.look = 300 * time.Millisecond })
	d.awaitReady(t)
	publish(t, connect(t, url), "a", 10)
	d.awaitSeq(t, 20)
	// It is not to look before the events are there that the test reckons with.
	shut := make(chan struct{})
	d.archive.shut.Store(&shut)
	s.Shutdown()
	s.WaitForShutdown()
	startJetStream(t, port, backup)
	nc := connect(t, url)
	publish(t, nc, "b", 3)
	close(shut)
	eventually(t, "the stream is taken up at its end", func() bool { return len(d.positions()) == 2 && len(d.losses()) == 1 })
	if at, lost := d.positions()[1], d.losses()[0]; at != (api.Position{Stream: id, Seq: 13}) || lost != 13 {
		t.Errorf("it goes on behind %v, lost is %d", at, lost)
	}
	publish(t, nc, "b", 5)
	eventually(t, "newer events come", func() bool { return len(d.stored()) == 25 })
	checkRow(t, d.stored()[:20], id, 1, 20)
	checkRow(t, d.stored()[20:], id, 14, 18)
}

// slowSink takes its time.
type slowSink struct{ *sink }

func (s slowSink) Deliver(events []api.Event) {
	pause := time.NewTimer(2 * time.Millisecond)
	<-pause.C
	s.sink.Deliver(events)
}

func TestSlowSink(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	p := startProxy(t, s.Addr().String())
	id := stateOf(makeStream(t, s.ClientURL(), 1)).ID
	nc := connect(t, s.ClientURL())
	into := slowSink{&sink{}}
	d := openDurable(t, p.url(), into, func(s *sequence) { s.order.maxWaiting = 100 })
	d.awaitReady(t)
	publishing(t, nc, 3000, func(i int) {
		switch i {
		case 300:
			p.cut()
		case 600:
			p.mend()
		}
	})
	into.awaitSeq(t, 3000)
	checkRow(t, into.stored(), id, 1, 3000)
}

// Everything at once, at random: the sink gets the stream all the same.
func TestChaos(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	p := startProxy(t, s.Addr().String())
	id := stateOf(makeStream(t, s.ClientURL(), 1)).ID
	nc := connect(t, s.ClientURL())
	d := openDurable(t, p.url(), nil, func(s *sequence) {
		s.order.maxWaiting = 200
		s.pace.look, s.pace.tail = 100*time.Millisecond, 10*time.Millisecond
	})
	d.awaitReady(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	publishing(t, nc, 4000, func(i int) {
		if i%100 != 0 {
			return
		}
		switch random.IntN(8) {
		case 0:
			p.cut()
		case 1, 2:
			p.mend()
		case 3, 4:
			one := random.IntN(7)
			p.drop(func(subject string) bool { return subject == fmt.Sprintf("pushed.user.u%d", one) })
		case 5:
			p.drop(nil)
		case 6:
			p.drop(func(subject string) bool { return subject != "" && subject[0] == 'p' })
		}
	})
	p.drop(nil)
	p.mend()
	d.awaitSeq(t, 4000)
	checkRow(t, d.stored(), id, 1, 4000)
	if st := d.Stats().Stream; st.Lost != 0 || len(d.positions()) != 1 {
		t.Errorf("got %+v", st)
	}
}
