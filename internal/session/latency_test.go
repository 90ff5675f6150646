package session

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLatencyBuckets holds the quick way to a bucket against the definition.
func TestLatencyBuckets(t *testing.T) {
	bucket := func(d time.Duration) int {
		var h histogram
		h.observe(d)
		for i := range h.buckets {
			if h.buckets[i].Load() == 1 {
				return i
			}
		}
		return -1
	}
	for d, want := range map[time.Duration]int{
		-time.Second: 0, 0: 0, 953 * time.Nanosecond: 0, 954 * time.Nanosecond: 1,
		time.Second: -LatencyFirst << LatencySchema, time.Second + 1: -LatencyFirst<<LatencySchema + 1,
		32 * time.Second: LatencyBuckets - 2, 32*time.Second + 1: LatencyBuckets - 1, math.MaxInt64: LatencyBuckets - 1,
	} {
		if got := bucket(d); got != want {
			t.Errorf("%v falls into bucket %d, want %d", d, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Min(0).Draw(t, "d"))
		i := bucket(d)
		if int64(d) > latencyBounds[i] || i > 0 && int64(d) <= latencyBounds[i-1] {
			t.Fatalf("%v falls into bucket %d", d, i)
		}
	})
}

func TestLatencyQuantile(t *testing.T) {
	var h histogram
	var counts LatencyCounts
	if counts.Quantile(0.5) != 0 {
		t.Error("nothing has a median")
	}
	for i := range 1000 {
		h.observe(time.Duration(i+1) * time.Millisecond)
	}
	for i := range counts {
		counts[i] = h.buckets[i].Load()
	}
	for share, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := counts.Quantile(share); got < want || got > want*110/100 {
			t.Errorf("quantile %v is %v, want %v and at most a tenth more", share, got, want)
		}
	}
	least := math.Inf(1) // what others allocate meanwhile counts as well
	for range 10 {
		least = min(least, testing.AllocsPerRun(100, func() { h.observe(time.Millisecond) }))
	}
	if least != 0 {
		t.Errorf("counting allocates %v times", least)
	}
}
