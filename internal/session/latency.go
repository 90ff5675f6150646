package session

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Durations are counted in eight buckets to a power of two: what a quantile says
// is at most 9 % off. Their bounds are those of Prometheus' native histograms of
// this schema, so that nothing is counted twice and nothing is converted.
const (
	// LatencySchema says how many buckets a power of two has: 1<<LatencySchema.
	LatencySchema = 3
	// LatencyFirst is the power of two, of seconds, from which on is looked
	// closer: 1 µs.
	LatencyFirst = -20
	// LatencyLast is the one up to which is looked closer: 32 s.
	LatencyLast = 5
	// LatencyBuckets is the number of buckets. The first takes what lies below,
	// the last what lies above.
	LatencyBuckets = (LatencyLast-LatencyFirst)<<LatencySchema + 2
)

// LatencyCounts are how many durations were counted in each bucket.
type LatencyCounts [LatencyBuckets]int64

// latencyBounds are the highest durations of the buckets.
var latencyBounds = func() (bounds [LatencyBuckets]int64) {
	for i := range bounds {
		bounds[i] = int64(math.Exp2(LatencyFirst+float64(i)/(1<<LatencySchema)) * 1e9)
	}
	bounds[LatencyBuckets-1] = math.MaxInt64
	return bounds
}()

// latencyStarts are the buckets in which durations of so many bits begin.
var latencyStarts = func() (starts [64]uint8) {
	for n := range starts {
		lowest := int64(1) << n >> 1
		for latencyBounds[starts[n]] < lowest {
			starts[n]++
		}
	}
	return starts
}()

// histogram counts durations. One goroutine at a time writes it, anyone reads.
type histogram struct {
	buckets [LatencyBuckets]atomic.Int64
	sum     atomic.Int64 // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	d = max(d, 0)
	i := latencyStarts[bits.Len64(uint64(d))]
	for latencyBounds[i] < int64(d) {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Quantile is the duration that a share of them, from 0 to 1, did not pass. Of
// none it is 0.
func (c *LatencyCounts) Quantile(share float64) time.Duration {
	total := int64(0)
	for _, n := range c {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank, below := max(int64(math.Ceil(share*float64(total))), 1), int64(0)
	for i, n := range c[:LatencyBuckets-1] {
		if below += n; below >= rank {
			return time.Duration(latencyBounds[i])
		}
	}
	return time.Duration(latencyBounds[LatencyBuckets-2]) // or more
}
