package main

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"pushgate/internal/session"
)

// latencyMetric is one histogram in both forms: classic buckets, one to a power
// of two, and native ones, which Prometheus takes where it is told to. They are
// made of the same counts when they are asked for.
type latencyMetric struct {
	desc  *prometheus.Desc
	from  *session.LatencyCounts
	sum   time.Duration
	began time.Time
}

// Desc implements prometheus.Metric.
func (m latencyMetric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m latencyMetric) Write(out *dto.Metric) error {
	const first, power = session.LatencyFirst << session.LatencySchema, 1 << session.LatencySchema
	classic, native := map[float64]uint64{}, map[int]int64{}
	total := int64(0)
	for i, n := range m.from {
		total += n
		if i%power == 0 && i < session.LatencyBuckets-1 {
			classic[math.Exp2(float64(session.LatencyFirst+i/power))] = uint64(total)
		}
		if i > 0 && n > 0 {
			native[first+i] = n
		}
	}
	one, err := prometheus.NewConstHistogram(m.desc, uint64(total), m.sum.Seconds(), classic)
	if err != nil {
		return err
	}
	if err := one.Write(out); err != nil {
		return err
	}
	other, err := prometheus.NewConstNativeHistogram(m.desc, uint64(total), m.sum.Seconds(), native, nil,
		uint64(m.from[0]), session.LatencySchema, math.Exp2(session.LatencyFirst), m.began)
	if err != nil {
		return err
	}
	var with dto.Metric
	if err := other.Write(&with); err != nil {
		return err
	}
	to, h := out.Histogram, with.Histogram
	to.Schema, to.ZeroThreshold, to.ZeroCount = h.Schema, h.ZeroThreshold, h.ZeroCount
	to.PositiveSpan, to.PositiveDelta, to.CreatedTimestamp = h.PositiveSpan, h.PositiveDelta, h.CreatedTimestamp
	return nil
}
