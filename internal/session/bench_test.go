//go:build linux && !portable

package session

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/poll"
)

// startNullHub is a running hub whose sessions write to /dev/null: everything
// but the network's part of a delivery.
func startNullHub(b *testing.B, loops, users, flight int) *Hub {
	b.Helper()
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = null.Close() })
	h, err := New(Config{
		Log: zap.NewNop(), Loops: loops, Subscriptions: map[string][]string{"": {"user.{sub}", "broadcast"}},
		Heartbeat: time.Hour, OutboxBytes: 256 << 10, MessageBytes: 4 << 10, EventBytes: 64 << 10, HalfOpen: 16,
		FlightEvents: flight,
	})
	if err != nil {
		b.Fatal(err)
	}
	expires := time.Now().Add(time.Hour).Unix()
	enrolled := 0
	h.everywhere(func(l *loop) {
		for i := range users {
			user := fmt.Sprintf("u%07d", i)
			if h.homeOf(user) == l {
				_, id := enrollUser(h, user, expires)
				l.slots.at(id).fd = poll.FD(null.Fd())
				l.setDue(id, maxDue)
				enrolled++
			}
		}
	})
	if enrolled != users {
		b.Fatalf("%d of %d enrolled", enrolled, users)
	}
	b.Cleanup(func() {
		// Their descriptor is not theirs to close.
		h.everywhere(func(l *loop) {
			for id := uint32(1); id < l.slots.top; id++ {
				l.slots.at(id).fd = -1
			}
		})
		h.Close()
	})
	return h
}

// awaitDeliveries waits until n deliveries are done.
func awaitDeliveries(h *Hub, n int64) {
	for h.Stats().Deliveries < n {
		pause := time.NewTimer(50 * time.Microsecond)
		<-pause.C
	}
}

// backlog is how many events wait for the loops.
func backlog(h *Hub) int64 {
	n := int64(0)
	for _, l := range h.loops {
		n += l.box.count.Load()
	}
	return n
}

// BenchmarkUnicast delivers events to single users, sixteen a batch, from
// Hub.Deliver to the write.
func BenchmarkUnicast(b *testing.B) {
	for _, loops := range []int{1, 2, 16} {
		for _, flight := range []int{0, 8192} {
			b.Run(fmt.Sprintf("loops=%d/flight=%d", loops, flight), func(b *testing.B) { benchmarkUnicast(b, loops, flight) })
		}
	}
}

func benchmarkUnicast(b *testing.B, loops, flight int) {
	const users = 100_000
	h := startNullHub(b, loops, users, flight)
	subjects := make([]string, users)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("user.u%07d", i)
	}
	data := []byte(`{"text":"hello"}`)
	batch := make([]api.Event, 16)
	now := time.Now()
	b.ReportAllocs()
	done := int64(0)
	for b.Loop() {
		for i := range batch {
			batch[i] = api.Event{Subject: subjects[rand.IntN(users)], ID: "0193a6b2-7c1e-7e0a-9b1d-3f5a2c4e6d80", Time: now, Data: data}
		}
		h.Deliver(batch)
		done += int64(len(batch))
		for backlog(h) > 1000 {
			runtime.Gosched() // more would only be dropped
		}
	}
	awaitDeliveries(h, done)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/event")
}

// BenchmarkFlight is one entry of the flight recorder about an event.
func BenchmarkFlight(b *testing.B) {
	h := newBareHub(b, 1)
	l := h.loops[0]
	l.flight = newFlight(8192, 1)
	_, id := enrollUser(h, "alice", time.Now().Add(time.Hour).Unix())
	d := h.newDelivery(&api.Event{Subject: "user.alice", ID: "0193a6b2-7c1e-7e0a-9b1d-3f5a2c4e6d80"}, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		l.noteEvent(wasQueued, 0, l.slots.at(id), d)
	}
}

// BenchmarkBroadcast delivers one event after the other to 10,000 sessions.
func BenchmarkBroadcast(b *testing.B) {
	for _, loops := range []int{1, 2, 16} {
		b.Run(fmt.Sprintf("loops=%d", loops), func(b *testing.B) {
			const users = 10_000
			h := startNullHub(b, loops, users, 8192)
			data := []byte(`{"text":"hello"}`)
			batch := make([]api.Event, 1)
			b.ReportAllocs()
			done := int64(0)
			for b.Loop() {
				batch[0] = api.Event{Subject: "broadcast", Time: time.Now(), Data: data}
				h.Deliver(batch)
				done += users
				awaitDeliveries(h, done)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/delivery")
		})
	}
}

// BenchmarkSweep looks at the deadlines of 1,000,000 sessions, none due.
func BenchmarkSweep(b *testing.B) {
	h := newBareHub(b, 1)
	expires := time.Now().Add(time.Hour).Unix()
	l := h.loops[0]
	for i := range 1_000_000 {
		_, id := enrollUser(h, fmt.Sprintf("u%07d", i), expires)
		l.setDue(id, maxDue)
	}
	for b.Loop() {
		l.sweep(l.tick + 1)
	}
}

// BenchmarkRequest is what a handshake costs beside system calls and its token:
// reading the head, judging it, making the 101.
func BenchmarkRequest(b *testing.B) {
	cfg := &Config{Carriers: []string{"header", "subprotocol", "query"}, SameHost: true, Compression: true}
	head := []byte(strings.TrimSuffix(upgradeHead("abc.def.ghi"), "\r\n") +
		"Sec-WebSocket-Protocol: pushgate.v1\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" +
		"User-Agent: Mozilla/5.0\r\nOrigin: http://x\r\nAccept-Language: en\r\nCache-Control: no-cache\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		size, err := scanHead(head, 0)
		if err != nil {
			b.Fatal(err)
		}
		r, lines, err := parseHead(head[:size])
		if err != nil {
			b.Fatal(err)
		}
		hs := &handshake{request: r}
		if refused := hs.judge(cfg, size, lines, true); refused.Kind != 0 {
			b.Fatal(refused)
		}
		if len(hs.answer(cfg)) == 0 {
			b.Fatal("no answer")
		}
	}
}
