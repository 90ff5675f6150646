//go:build linux

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of 1/16 of their power of two: exact
// to 6 %, without an allocation a sample.
type histogram struct {
	counts [64 * 16]int64
	total  int64
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(max(d, 0))]++
	h.total++
}

// sparse is the buckets that are not empty, for addAll elsewhere.
func (h *histogram) sparse() map[int]int64 {
	buckets := map[int]int64{}
	for i, n := range h.counts {
		if n > 0 {
			buckets[i] = n
		}
	}
	return buckets
}

func (h *histogram) addAll(buckets map[int]int64) {
	for i, n := range buckets {
		if i >= 0 && i < len(h.counts) {
			h.counts[i] += n
			h.total += n
		}
	}
}

func bucketOf(d time.Duration) int {
	n := uint64(d)
	if n < 16 {
		return int(n)
	}
	exp := bits.Len64(n) - 5
	return (exp+1)*16 + int(n>>exp&15)
}

// upper is the smallest duration above a bucket.
func upper(bucket int) time.Duration {
	if bucket < 16 {
		return time.Duration(bucket + 1)
	}
	exp := bucket/16 - 1
	return time.Duration(uint64(16+bucket%16+1) << exp)
}

// quantile returns the value that a share q of the samples does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	want := int64(q*float64(h.total) + 0.5)
	seen := int64(0)
	for i, n := range h.counts {
		if seen += n; seen >= max(want, 1) {
			return upper(i)
		}
	}
	return upper(len(h.counts) - 1)
}

// latencies are the quantiles that tables show, in milliseconds.
type latencies struct {
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
}

func (h *histogram) latencies() latencies {
	ms := func(q float64) float64 { return float64(h.quantile(q).Microseconds()) / 1000 }
	return latencies{ms(0.50), ms(0.99), ms(0.999)}
}
