package bus

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pushgate/api"
)

// TestOverlappingInterest has subscriptions that meet come and go, as sessions
// do. Each event comes once as long as one of them matches.
func TestOverlappingInterest(t *testing.T) {
	s := startNATS(t, 0)
	b, got := openBus(t, s.ClientURL(), true)
	nc := connect(t, s.ClientURL())
	pattern := rapid.SampledFrom([]string{"a.b", "a.c", "a.*", "*.b", "a.>", ">", "*.*", "b.b"})
	rapid.Check(t, func(t *rapid.T) {
		held := map[string]int{}
		defer func() {
			for p, n := range held {
				for range n {
					b.Interest().Release([]string{p})
				}
			}
		}()
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			p := pattern.Draw(t, "pattern")
			if held[p] > 0 && rapid.Bool().Draw(t, "release") {
				b.Interest().Release([]string{p})
				held[p]--
			} else {
				b.Interest().Acquire([]string{p}, func() {})
				held[p]++
			}
			// The interest works in order: what was asked before is done then.
			acquire(t, b, "settled")
			b.Interest().Release([]string{"settled"})

			var want []string
			got.clear()
			for i, subject := range []string{"a.b", "a.c", "b.b", "a.b.c"} {
				for q, n := range held {
					if n > 0 && api.Match(q, subject) {
						want = append(want, fmt.Sprintf("%s %d", subject, i))
						break
					}
				}
				for _, root := range []string{"push.", "flash."} {
					if err := nc.Publish(root+subject, fmt.Append(nil, i)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := nc.FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			if err := b.Flush(patience); err != nil {
				t.Fatal(err)
			}
			// Read is all that came before the answer. Under the lock it is delivered
			// too: whoever has taken it off the channel is done then.
			b.mu.Lock()
			b.deliverAll()
			b.mu.Unlock()
			want = slices.Sorted(slices.Values(append(want, want...)))
			if have := got.sorted(); !slices.Equal(have, want) {
				t.Fatalf("with %v held:\n got %s\nwant %s", held, strings.Join(have, ", "), strings.Join(want, ", "))
			}
		}
	})
}

func (s *sink) clear() {
	s.mu.Lock()
	s.events = nil
	s.mu.Unlock()
}

// sorted are the events as "subject data", in order.
func (s *sink) sorted() []string {
	var all []string
	for _, e := range s.all() {
		all = append(all, e.Subject+" "+string(e.Data))
	}
	slices.Sort(all)
	return all
}
