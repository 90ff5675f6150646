package bus

import (
	"fmt"
	"testing"

	"pushgate/api"
)

// BenchmarkFetch is what a client costs that comes back with an old cursor and
// has missed five events, in a stream of 100,000 over 20,000 subjects. Spread,
// they lie far apart, and the server looks at everything between; recent, they
// are among the last 5,000.
func BenchmarkFetch(b *testing.B) {
	const messages, subjects, recent = 100_000, 20_000, 1_000
	s := startJetStream(b, 0, storeDir(b))
	bus := openStream(b, s.ClientURL())
	js := newJetStream(b, s.ClientURL())
	for n := range messages + 5*recent {
		subject := n % subjects
		if n >= messages {
			subject = n % recent
		}
		if err := js.Conn().Publish(fmt.Sprintf("push.user.%d", subject), make([]byte, 256)); err != nil {
			b.Fatal(err)
		}
	}
	last := store(b, js, "push.broadcast", "1")
	id := identity(b, bus)
	for _, bb := range []struct {
		name         string
		first, count int // of the subjects that are asked for
		after        uint64
		parallel     int
	}{
		{"spread", recent, subjects - recent, 0, 1},
		{"spread", recent, subjects - recent, 0, 16},
		{"recent", 0, recent, messages, 1},
		{"recent", 0, recent, messages, 16},
	} {
		b.Run(fmt.Sprintf("%s/parallel=%d", bb.name, bb.parallel), func(b *testing.B) {
			done := make(chan error, bb.parallel)
			n := 0
			ask := func() {
				n++
				r := api.Fetch{
					Stream: id, Subjects: []string{fmt.Sprintf("user.%d", bb.first+n*7919%bb.count)},
					After: bb.after, Through: last, Bytes: 64 << 10,
				}
				bus.Fetch(r, func(p api.Page, err error) {
					if err == nil && len(p.Events) != 5 {
						err = fmt.Errorf("%+v has %d events", r, len(p.Events))
					}
					done <- err
				})
			}
			before := bus.FetchStats().Requests
			b.ReportAllocs()
			for range min(bb.parallel, b.N) {
				ask()
			}
			for i := range b.N {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				if i < b.N-bb.parallel {
					ask()
				}
			}
			b.ReportMetric(float64(bus.FetchStats().Requests-before)/float64(b.N), "requests/op")
		})
	}
}
