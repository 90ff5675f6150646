package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"pushgate/api"
)

// plainArchive reads the stream in the plainest way: one message a request, all
// from the leader, over the bus's own connection.
type plainArchive struct {
	b       *Bus
	gate    atomic.Pointer[chan struct{}] // fetch waits for its end
	shut    atomic.Pointer[chan struct{}] // info waits for its end
	stale   atomic.Int64                  // so many answers are an old leader's
	failing atomic.Pointer[error]         // fetch fails with it
	infos   atomic.Int64
	fetches atomic.Int64
}

func (a *plainArchive) stream(ctx context.Context) (jetstream.Stream, error) {
	js, err := jetstream.New(a.b.conn)
	if err != nil {
		return nil, err
	}
	return js.Stream(ctx, testStream)
}

func (a *plainArchive) open(ctx context.Context) error {
	_, err := a.stream(ctx)
	return err
}

func stateOf(s jetstream.Stream) streamState {
	info := s.CachedInfo()
	state := streamState{
		ID:    strconv.FormatInt(info.Created.UnixNano(), 36),
		First: info.State.FirstSeq, Last: info.State.LastSeq, Messages: info.State.Msgs, Bytes: info.State.Bytes,
		Created: info.Created,
	}
	if info.Cluster != nil {
		state.Leader = info.Cluster.Leader
	}
	return state
}

func (a *plainArchive) info(ctx context.Context) (streamState, error) {
	a.infos.Add(1)
	if shut := a.shut.Load(); shut != nil {
		select {
		case <-*shut:
		case <-ctx.Done():
			return streamState{}, ctx.Err()
		}
	}
	s, err := a.stream(ctx)
	if err != nil {
		return streamState{}, err
	}
	state := stateOf(s)
	if a.stale.Add(-1) >= 0 {
		state.Last -= 3
	}
	return state, nil
}

func (a *plainArchive) fetch(ctx context.Context, r api.Fetch) (api.Page, error) {
	a.fetches.Add(1)
	if gate := a.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return api.Page{}, ctx.Err()
		}
	}
	if err := a.failing.Load(); err != nil {
		return api.Page{}, *err
	}
	s, err := a.stream(ctx)
	if err != nil {
		return api.Page{}, err
	}
	state := stateOf(s)
	if state.ID != r.Stream {
		return api.Page{}, api.ErrOtherStream
	}
	page := api.Page{Through: r.After, Trimmed: state.First > r.After+1}
	for size := 0; page.Through < r.Through && size < r.Bytes; {
		m, err := s.GetMsg(ctx, page.Through+1, jetstream.WithGetMsgSubject("push.>"))
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Sequence > r.Through {
			page.Through = r.Through
			break
		}
		if err != nil && len(page.Events) > 0 {
			break // one by one takes its time, and what has come is progress
		}
		if err != nil {
			return api.Page{}, err
		}
		e := api.Event{
			Subject: strings.TrimPrefix(m.Subject, "push."), Data: m.Data, Time: m.Time, Seq: m.Sequence,
			Cursor: api.Position{Stream: state.ID, Seq: m.Sequence}.Cursor(),
		}
		readHeader(&e, m.Header)
		page.Events = append(page.Events, e)
		page.Through = m.Sequence
		size += len(m.Data)
	}
	return page, nil
}

const testStream = "PUSH"

// makeStream makes the stream as the gateway would.
func makeStream(tb testing.TB, url string, replicas int) jetstream.Stream {
	tb.Helper()
	js := newJetStream(tb, url)
	var s jetstream.Stream
	eventually(tb, "the stream is made", func() bool {
		var err error
		s, err = js.CreateStream(tb.Context(), jetstream.StreamConfig{
			Name: testStream, Subjects: []string{"push.>"}, Replicas: replicas,
			RePublish: &jetstream.RePublish{Source: "push.>", Destination: "pushed.>"},
		})
		return err == nil
	})
	return s
}

// durable is a bus with a stream, and what it gave.
type durable struct {
	*Bus
	*sink
	archive *plainArchive
}

// openDurable starts a bus. change may set its pace.
func openDurable(tb testing.TB, url string, into Sink, change func(*sequence)) durable {
	tb.Helper()
	return openDurableAs(tb, url, false, into, change)
}

func openDurableAs(tb testing.TB, url string, exact bool, into Sink, change func(*sequence)) durable {
	tb.Helper()
	d := durable{sink: &sink{}, archive: &plainArchive{}}
	if into == nil {
		into = d.sink
	}
	var err error
	d.Bus, err = New(Config{
		Options: Options{URL: url, Name: "test"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash", Exact: exact,
		Durable: &Durable{Stream: testStream, RepublishPrefix: "pushed", RingBytes: 1 << 20, archive: d.archive},
	})
	if err != nil {
		tb.Fatal(err)
	}
	d.archive.b = d.Bus
	// Ready is to mean ready, and nothing is lost for being late.
	d.sequence.pace.giveUp, d.sequence.pace.patience = time.Hour, time.Hour
	if change != nil {
		change(d.sequence)
	}
	tb.Cleanup(d.Close)
	if err := d.Start(into); err != nil {
		tb.Fatal(err)
	}
	return d
}

// atGaps looks at the stream once, for what is in it. From then on only gaps
// make it fetch: no look takes an event for lost whose copy is slow.
func atGaps(s *sequence) { s.pace.look, s.pace.tail = time.Hour, time.Hour }

func (d durable) awaitReady(tb testing.TB) {
	tb.Helper()
	eventually(tb, "the stream is ready", func() bool { return d.EverConnected() && d.StreamReady() })
}

// publish stores events and returns their sequences.
func publish(tb testing.TB, nc *nats.Conn, subject string, n int) []uint64 {
	tb.Helper()
	js := jetStreamOn(tb, nc)
	var all []uint64
	for i := range n {
		ack, err := js.Publish(tb.Context(), "push."+subject, fmt.Append(nil, i))
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, ack.Sequence)
	}
	return all
}

// stored are the events that come from a stream.
func (s *sink) stored() []api.Event {
	return slices.DeleteFunc(s.all(), func(e api.Event) bool { return e.Seq == 0 })
}

// lastSeq is the sequence of the newest stored event.
func (s *sink) lastSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range slices.Backward(s.events) {
		if e.Seq != 0 {
			return e.Seq
		}
	}
	return 0
}

func (s *sink) awaitSeq(tb testing.TB, seq uint64) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("event %d comes", seq), func() bool { return s.lastSeq() >= seq })
}

// checkRow wants each of the sequences from first to last once, in order, each
// with its cursor.
func checkRow(tb testing.TB, events []api.Event, id string, first, last uint64) {
	tb.Helper()
	for i, e := range events {
		want := first + uint64(i)
		if e.Seq != want {
			tb.Fatalf("event %d has the sequence %d, want %d", i, e.Seq, want)
		}
		if cursor := (api.Position{Stream: id, Seq: want}).Cursor(); e.Cursor != cursor {
			tb.Fatalf("event %d has the cursor %s, want %s", want, e.Cursor, cursor)
		}
	}
	if got := uint64(len(events)); got != last-first+1 {
		tb.Fatalf("there are %d events, want those from %d to %d", got, first, last)
	}
}

func (s *sink) positions() []api.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.streams)
}

func (s *sink) losses() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lost)
}

func TestStoredEventsInOrder(t *testing.T) {
	url := startJetStream(t, 0, storeDir(t)).ClientURL()
	id := stateOf(makeStream(t, url, 1)).ID
	nc := connect(t, url)
	publish(t, nc, "user.alice", 30)
	d := openDurable(t, url, nil, atGaps)
	d.awaitReady(t)
	checkRow(t, d.stored(), id, 1, 30)
	if at := d.positions(); len(at) != 1 || at[0] != (api.Position{Stream: id}) {
		t.Errorf("streams are %v", at)
	}
	publish(t, nc, "user.bob", 500)
	// What goes around the stream, with headers or without, comes from nobody.
	for _, header := range []nats.Header{
		nil,
		{"Nats-Stream": {"OTHER"}, "Nats-Sequence": {"531"}, "Nats-Time-Stamp": {"2026-01-02T03:04:05Z"}},
		{"Nats-Stream": {testStream}, "Nats-Sequence": {"0"}, "Nats-Time-Stamp": {"2026-01-02T03:04:05Z"}},
	} {
		if err := nc.PublishMsg(&nats.Msg{Subject: "pushed.user.bob", Header: header, Data: []byte("fake")}); err != nil {
			t.Fatal(err)
		}
	}
	// The server's own header comes after a publisher's.
	forged := nats.NewMsg("push.user.bob")
	forged.Header.Set("Nats-Sequence", "7")
	forged.Header.Set("Nats-Stream", "OTHER")
	forged.Header.Set("Nats-Subject", "push.user.eve")
	if err := nc.PublishMsg(forged); err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("flash.user.bob", []byte("typing")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all events come", func() bool { return len(d.all()) == 532 })
	checkRow(t, d.stored(), id, 1, 531)
	if e := d.stored()[530]; e.Subject != "user.bob" {
		t.Errorf("the event's subject is %s", e.Subject)
	}
	eventually(t, "the last one is counted", func() bool { return d.Stats().Stream.Last == 531 })
	st := d.Stats().Stream
	if st.Forged != 1 || st.Strangers != 3 || st.Gaps != 0 || st.Lost != 0 || st.Last != 531 || st.Repaired != 30 || st.Waiting != 0 {
		t.Errorf("got %+v", st)
	}
	if d.StreamError() != nil || len(d.losses()) != 0 {
		t.Errorf("error %v, lost %v", d.StreamError(), d.losses())
	}
}

// A start fetches the stream's end, not all of it.
func TestStartFetchesTheRing(t *testing.T) {
	url := startJetStream(t, 0, storeDir(t)).ClientURL()
	stream := makeStream(t, url, 1)
	nc := connect(t, url)
	publish(t, nc, "a", 100)
	d := openDurable(t, url, nil, func(s *sequence) { s.cfg.RingBytes = 500 })
	d.awaitReady(t)
	events := d.stored()
	if n := len(events); n < 2 || n > 20 {
		t.Fatalf("%d events were fetched", n)
	}
	checkRow(t, events, stateOf(stream).ID, events[0].Seq, 100)
	if at := d.positions()[0]; at.Seq != events[0].Seq-1 {
		t.Errorf("the stream begins behind %d", at.Seq)
	}
}

func TestRingStart(t *testing.T) {
	for _, c := range []struct {
		state streamState
		bytes int64
		want  uint64
	}{
		{streamState{}, 1000, 1},
		{streamState{First: 11, Last: 10}, 1000, 11},
		{streamState{First: 1, Last: 100, Messages: 100, Bytes: 10_000}, 1000, 91},
		{streamState{First: 95, Last: 100, Messages: 6, Bytes: 600}, 1000, 95},
		{streamState{First: 1, Last: 100, Messages: 100, Bytes: 10_000}, 0, 101},
		{streamState{First: 1, Last: 1_000_000, Messages: 1_000_000, Bytes: 1_000_000}, 1 << 30, 1_000_000 - maxRing + 1},
		{streamState{First: 1, Last: 100, Messages: 100, Bytes: 10}, 50, 51},
	} {
		if got := ringStart(c.state, c.bytes); got != c.want {
			t.Errorf("ringStart(%+v, %d) = %d, want %d", c.state, c.bytes, got, c.want)
		}
	}
}

// A stream that is not there is an error that is shown, and no reason to stop.
func TestStreamIsMissing(t *testing.T) {
	url := startJetStream(t, 0, storeDir(t)).ClientURL()
	d := openDurable(t, url, nil, func(s *sequence) { s.pace.giveUp = 50 * time.Millisecond })
	eventually(t, "the error is known", func() bool { return errors.Is(d.StreamError(), jetstream.ErrStreamNotFound) })
	d.awaitReady(t)
	nc := connect(t, url)
	if err := nc.Publish("flash.a", nil); err != nil {
		t.Fatal(err)
	}
	d.await(t, 1)
	id := stateOf(makeStream(t, url, 1)).ID
	publish(t, nc, "a", 3)
	d.awaitSeq(t, 3)
	checkRow(t, d.stored(), id, 1, 3)
	if err := d.StreamError(); err != nil {
		t.Errorf("the error stays: %v", err)
	}
}

// With exact interest stored events come whole, the others as they are wanted.
func TestExactInterestWithStream(t *testing.T) {
	url := startJetStream(t, 0, storeDir(t)).ClientURL()
	id := stateOf(makeStream(t, url, 1)).ID
	nc := connect(t, url)
	d := openDurableAs(t, url, true, nil, nil)
	d.awaitReady(t)
	for _, subject := range []string{"user.alice", "user.*"} {
		acquire(t, d.Bus, subject)
	}
	for _, subject := range []string{"flash.user.alice", "flash.other", "flash.user.bob"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, nc, "user.alice", 10)
	publish(t, nc, "other", 10)
	d.awaitSeq(t, 20)
	checkRow(t, d.stored(), id, 1, 20)
	if n := len(d.await(t, 22)); n != 22 {
		t.Errorf("%d events came", n)
	}
	d.Interest().Release([]string{"user.alice", "user.*"})
	eventually(t, "nothing is held", func() bool { return d.Stats().Subjects == 0 })
	if err := d.Flush(patience); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request("flash.user.alice", nil, patience); err != nats.ErrNoResponders {
		t.Errorf("a request to nobody gives %v", err)
	}
	publish(t, nc, "user.alice", 1)
	d.awaitSeq(t, 21)
}

// TestTrimmedWhileRead has the stream cut while a page is read in pieces: what is
// missing between them is said like what is missing before.
func TestTrimmedWhileRead(t *testing.T) {
	ns := startJetStream(t, 0, storeDir(t))
	makeStream(t, ns.ClientURL(), 1)
	d := openDurable(t, ns.ClientURL(), nil, atGaps)
	eventually(t, "the stream is known", func() bool {
		d.Bus.mu.Lock()
		defer d.Bus.mu.Unlock()
		return d.sequence.order.next == 1
	})
	var events []api.Event
	for _, seq := range []uint64{3, 4, 7, 8} {
		events = append(events, api.Event{Subject: "user.alice", Seq: seq, Data: []byte("1")})
	}
	d.sequence.handOn(api.Page{Events: events, Through: 9, Trimmed: true})
	if got := d.await(t, 4); got[0].Seq != 3 || got[3].Seq != 8 {
		t.Errorf("got %v", got)
	}
	d.sink.mu.Lock()
	lost := fmt.Sprint(d.lost[:min(len(d.lost), 2)])
	d.sink.mu.Unlock()
	if lost != "[2 6]" {
		t.Errorf("lost up to %s", lost)
	}
}
