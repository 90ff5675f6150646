package bus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// BenchmarkTake is one live event on its way to the batch: plain, of a stream
// decoded and no more, and in its order.
func BenchmarkTake(b *testing.B) {
	cfg := Config{Options: Options{URL: "nats://127.0.0.1"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash"}
	open := func(b *testing.B, cfg Config) *Bus {
		bus, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		bus.sink = &sink{}
		return bus
	}
	now := time.Now()
	payload := make([]byte, 256)
	number := []byte("000000000001")
	// next writes the sequence into the header in place: all that is measured
	// is ours.
	header := nats.Header{
		"Nats-Stream": {testStream}, "Nats-Subject": {"push.user.alice"}, "Nats-Sequence": {""},
		"Nats-Last-Sequence": {"41"}, "Nats-Time-Stamp": {now.UTC().Format(time.RFC3339Nano)}, "Nats-Msg-Id": {"m-1"},
	}
	numbers := make([]string, 1<<16)
	for i := range numbers {
		numbers[i] = string(number)
		for k := len(number) - 1; ; k-- {
			if number[k]++; number[k] <= '9' {
				break
			}
			number[k] = '0'
		}
	}
	b.Run("plain", func(b *testing.B) {
		bus := open(b, cfg)
		m := &nats.Msg{Subject: "push.user.alice", Data: payload, Header: nats.Header{"Nats-Msg-Id": {"m-1"}}}
		b.ReportAllocs()
		for b.Loop() {
			bus.batch = bus.batch[:0]
			bus.take(m, now)
		}
	})
	m := &nats.Msg{Subject: "pushed.user.alice", Data: payload, Header: header}
	cfg.Durable = &Durable{Stream: testStream, RepublishPrefix: "pushed"}
	b.Run("decoded", func(b *testing.B) {
		bus := open(b, cfg)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			header["Nats-Sequence"][0] = numbers[i%len(numbers)]
			_, subject := bus.root(m.Subject)
			e, _, err := storedEvent(subject, testStream, m)
			if err != nil {
				b.Fatal(err)
			}
			bus.batch = append(bus.batch[:0], e)
		}
	})
	b.Run("ordered", func(b *testing.B) {
		bus := open(b, cfg)
		s := bus.sequence
		s.id = "dg0fj2k3l4m5"
		s.settled.Store(s.doubts.Load())
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i%len(numbers) == 0 {
				s.order.restart(1, 0, now)
			}
			header["Nats-Sequence"][0] = numbers[i%len(numbers)]
			bus.batch = bus.batch[:0]
			bus.take(m, now)
			if len(bus.batch) != 1 {
				b.Fatal("it was not due")
			}
		}
	})
}
