package bus

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pushgate/api"
)

// Whatever is stored and asked for, chained pages hold exactly what a plain look
// at all of it gives, in order and once.
func TestFetchAgainstReference(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	js := newJetStream(t, s.ClientURL())
	b := openStream(t, s.ClientURL())
	id := identity(t, b)
	var all []api.Event // sequence n stands at n-1
	token := rapid.SampledFrom([]string{"a", "b", "c"})
	subjects := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(token, 1, 3).Draw(t, "tokens"), ".")
	})
	patterns := rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "*"}), 0, 3).Draw(t, "tokens")
		if len(tokens) == 0 || rapid.Bool().Draw(t, "open") {
			tokens = append(tokens, ">")
		}
		return strings.Join(tokens, ".")
	})
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(0, 20).Draw(rt, "publishes") {
			subject := subjects.Draw(rt, "subject")
			data := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 10, 3000, 9000}).Draw(rt, "size"))
			seq := store(t, js, "push."+subject, data)
			all = append(all, api.Event{Subject: subject, Seq: seq, Data: []byte(data)})
		}
		r := api.Fetch{
			Stream: id, Subjects: rapid.SliceOfN(patterns, 0, 5).Draw(rt, "patterns"),
			After: rapid.Uint64Range(0, uint64(len(all))+1).Draw(rt, "after"), Through: rapid.Uint64Range(0, uint64(len(all))).Draw(rt, "through"),
			Bytes: rapid.SampledFrom([]int{0, 1, 100, 20_000, 1 << 20}).Draw(rt, "bytes"), Last: rapid.Bool().Draw(rt, "last"),
		}
		newest := make(map[string]uint64)
		matches := func(e api.Event) bool {
			if e.Seq <= r.After || e.Seq > r.Through {
				return false
			}
			for _, p := range r.Subjects {
				if api.Match(p, e.Subject) {
					return true
				}
			}
			return false
		}
		for _, e := range all {
			if matches(e) {
				newest[e.Subject] = e.Seq
			}
		}
		var want []string
		for _, e := range all {
			if matches(e) && (!r.Last || newest[e.Subject] == e.Seq) {
				want = append(want, fmt.Sprintf("%d %s %d", e.Seq, e.Subject, len(e.Data)))
			}
		}
		var got []string
		through := r.Through
		for done := false; !done; {
			p, err := fetch(t, b, r)
			if err != nil {
				rt.Fatalf("%+v: %v", r, err)
			}
			bytes := 0
			for i, e := range p.Events {
				if bytes += weight(&e); i > 0 && bytes > max(r.Bytes, 1) && !r.Last {
					rt.Fatalf("a page of %d bytes: %d were asked for", bytes, r.Bytes)
				}
				if e.Cursor != (api.Position{Stream: id, Seq: e.Seq}).Cursor() {
					rt.Fatalf("event %d has the cursor %s", e.Seq, e.Cursor)
				}
				got = append(got, fmt.Sprintf("%d %s %d", e.Seq, e.Subject, len(e.Data)))
			}
			if done = p.Through == through; !done && (p.Through <= r.After || r.Last) {
				rt.Fatalf("%+v leads to %d", r, p.Through)
			}
			r.After = p.Through
		}
		if g, w := strings.Join(got, ", "), strings.Join(want, ", "); g != w {
			rt.Fatalf("got %s, want %s", g, w)
		}
	})
}
