package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSpread: however many there are, in however many places, and however
// unsteadily it is asked, they are spread over the whole window.
func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		left := rapid.SliceOfN(rapid.IntRange(0, 200), 1, 16).Draw(t, "places")
		window := time.Duration(rapid.IntRange(1000, 60_000).Draw(t, "window")) * time.Millisecond
		began := time.Unix(0, 0)
		pace := newSpread(began, window)
		total := 0
		for _, n := range left {
			total += n
		}
		done := 0
		now := began
		for {
			share := pace.share(now)
			at := done
			for i := range left {
				n := pace.due(share, left[i])
				left[i] -= n
				done += n
			}
			if share == 1 {
				break
			}
			even := float64(total) * float64(now.Sub(began)) / float64(window)
			if now.Equal(began) && total > 0 && done != 1 {
				t.Fatalf("%d of %d at once", done, total)
			}
			// The last of a few come a little early, being one each.
			if d := float64(done) - even; d < -2 || d > 2 {
				t.Fatalf("%d of %d after %s of %s, %d of them just now", done, total, now.Sub(began), window, done-at)
			}
			now = now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "ms")) * time.Millisecond)
		}
		if done != total {
			t.Fatalf("%d of %d at the end", done, total)
		}
		if late := now.Sub(began.Add(window)); late > 120*time.Millisecond {
			t.Fatalf("ended %s behind the window", late)
		}
	})
}
