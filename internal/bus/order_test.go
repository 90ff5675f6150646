package bus

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/api"
)

// TestOrder has a stream whose copies are lost, come twice and overtake each
// other, while repairs and looks go on. The reference is the stream itself:
// handed on is a row of it, without what was lost.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		began := time.Unix(1_700_000_000, 0)
		stored := func(seq uint64) api.Event {
			return api.Event{Subject: "a", Seq: seq, Time: began.Add(time.Duration(seq)), Data: fmt.Append(nil, seq)}
		}
		o := order{maxWaiting: rapid.IntRange(1, 8).Draw(t, "maxWaiting"), maxBytes: maxWaitingBytes}
		first := rapid.Uint64Range(1, 5).Draw(t, "first")
		o.restart(first, first-1, time.Time{})
		end := first - 1 // of the stream
		var got, lost []uint64
		hold := false

		arrive := func(seq uint64) {
			e := stored(seq)
			before := o
			switch where := o.arrive(&e, hold); {
			case where == due:
				if hold || before.behind() {
					t.Fatalf("%d is due while others wait", seq)
				}
				got = append(got, seq)
			case where == foreign && !slices.Contains(lost, seq):
				t.Fatalf("%d was handed on, and is foreign now", seq)
			case seq < before.next != (where == late || where == foreign):
				t.Fatalf("%d is %d, and %d would be next", seq, where, before.next)
			}
		}
		release := func() {
			for events := o.ready(3); len(events) > 0; events = o.ready(3) {
				for _, e := range events {
					got = append(got, e.Seq)
				}
			}
		}
		// repair fetches up to limit sequences, some of which are not there.
		repair := func(limit uint64, lose bool) {
			after, through, missing := o.gap()
			if !missing {
				release()
				return
			}
			if through > end {
				t.Fatalf("the gap ends at %d, the stream at %d", through, end)
			}
			through = min(through, after+limit)
			for seq := after + 1; seq <= through; seq++ {
				if lose {
					lost = append(lost, seq)
				} else {
					got = append(got, seq)
					o.when = stored(seq).Time
				}
			}
			o.pass(through)
		}

		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"publish", "publish", "publish", "miss", "again", "look", "repair", "repair", "lose", "release", "hold", "lie"}).Draw(t, "step") {
			case "publish":
				end++
				arrive(end)
			case "miss":
				end += rapid.Uint64Range(1, 4).Draw(t, "missed")
			case "again": // one of long ago, or one that was overtaken
				if end >= first {
					arrive(rapid.Uint64Range(first, end).Draw(t, "seq"))
				}
			case "look":
				o.know(end)
			case "repair":
				if !hold {
					repair(rapid.Uint64Range(1, 5).Draw(t, "page"), false)
				}
			case "lose":
				if !hold {
					repair(100, true)
				}
			case "release":
				if !hold {
					release()
				}
			case "lie":
				if end+2 > o.next {
					arrive(end + rapid.Uint64Range(2, 9).Draw(t, "beyond"))
					if rapid.Bool().Draw(t, "stale") {
						o.disprove(rapid.Uint64Range(first-1, end).Draw(t, "last"))
					} else {
						o.disprove(end)
					}
				}
			case "hold":
				hold = !hold
			}
			if o.newest+1 < o.next {
				t.Fatalf("%d is the newest, and %d would be next", o.newest, o.next)
			}
			if len(o.waiting) > o.maxWaiting {
				t.Fatalf("%d events wait", len(o.waiting))
			}
			size := 0
			for i := range o.waiting {
				size += eventBytes(&o.waiting[i])
			}
			if size != o.bytes {
				t.Fatalf("%d bytes wait, %d are counted", size, o.bytes)
			}
		}
		hold = false
		o.know(end)
		for o.behind() {
			repair(7, false)
			release()
		}
		all := append(slices.Clone(got), lost...)
		if !slices.IsSorted(got) {
			t.Fatalf("out of order: %v", got)
		}
		slices.Sort(all)
		for i, seq := range all {
			if seq != first+uint64(i) {
				t.Fatalf("after %d and %d lost there is %d twice or not at all: %v", len(got), len(lost), first+uint64(i), all)
			}
		}
		if uint64(len(all)) != end-first+1 {
			t.Fatalf("%d events of %d", len(all), end-first+1)
		}
		if o.waiting != nil || o.bytes != 0 {
			t.Fatalf("%d events and %d bytes stay behind", len(o.waiting), o.bytes)
		}
	})
}

// An event that has an old place and a younger time is another stream's.
func TestForeignEvent(t *testing.T) {
	now := time.Now()
	o := order{maxWaiting: 10, maxBytes: 1 << 20}
	o.restart(1, 0, time.Time{})
	for _, step := range []struct {
		seq  uint64
		at   time.Duration
		want verdict
	}{{1, 0, due}, {2, 1, due}, {2, 1, late}, {1, 0, late}, {1, 2, foreign}, {3, 2, due}, {5, 3, early}, {5, 3, early}} {
		if got := o.arrive(&api.Event{Seq: step.seq, Time: now.Add(step.at)}, false); got != step.want {
			t.Errorf("%d at %d is %d, want %d", step.seq, step.at, got, step.want)
		}
	}
}

// What waits is bounded in bytes too, and one that is larger than all of it
// waits in the stream.
func TestWaitingBytes(t *testing.T) {
	o := order{maxWaiting: 1000, maxBytes: 2000}
	o.restart(1, 0, time.Time{})
	for seq := uint64(2); seq < 50; seq++ {
		size := 100
		if seq == 40 {
			size = 5000
		}
		o.arrive(&api.Event{Seq: seq, Data: make([]byte, size)}, false)
		if o.bytes > o.maxBytes {
			t.Fatalf("%d bytes wait", o.bytes)
		}
		if seq == 40 && len(o.waiting) != 0 {
			t.Error("it waits here")
		}
	}
	after, through, missing := o.gap()
	if !missing || after != 0 || through >= 49 || len(o.waiting) == 0 || o.newest != 49 {
		t.Errorf("the gap is (%d, %d], the newest %d", after, through, o.newest)
	}
}
