package main

import (
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"pushgate/internal/session"
)

// scrape takes the metrics as Prometheus does that knows native histograms.
func (r *running) scrape() map[string]*dto.MetricFamily {
	r.tb.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+r.admin.addr.String()+"/metrics", nil)
	if err != nil {
		r.tb.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	all, decoder := map[string]*dto.MetricFamily{}, expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header))
	for {
		var f dto.MetricFamily
		err := decoder.Decode(&f)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			r.tb.Fatal(err)
		}
		all[f.GetName()] = &f
	}
}

// TestLatencyInBothForms has one event delivered, and durations of all sizes
// counted.
func TestLatencyInBothForms(t *testing.T) {
	g := startGateway(t)
	alice := g.connect("alice")
	g.publish("push.user.alice", `1`)
	alice.next()
	var h *dto.Histogram
	eventually(t, "the delivery is counted", func() bool {
		h = g.scrape()["pushgate_delivery_seconds"].Metric[0].Histogram
		return h.GetSampleCount() == 1 && h.GetSampleSum() > 0 // the one first, then the other
	})
	if h.GetSchema() != session.LatencySchema || len(h.PositiveSpan) != 1 || h.PositiveDelta[0] != 1 {
		t.Fatalf("it is %v", h)
	}
	// The native bucket lies within the classic one.
	upper := math.Exp2(float64(h.PositiveSpan[0].GetOffset()) / (1 << session.LatencySchema))
	for _, b := range h.Bucket {
		if inside := b.GetCumulativeCount() == 1; inside != (b.GetUpperBound() >= upper) {
			t.Errorf("up to %v there are %d, and natively the event took up to %v", b.GetUpperBound(), b.GetCumulativeCount(), upper)
		}
	}

	var counts session.LatencyCounts
	for i := range counts {
		counts[i] = int64(i + 1)
	}
	var out dto.Metric
	if err := (latencyMetric{newMetrics(g.gateway).latency, &counts, time.Hour, g.began}).Write(&out); err != nil {
		t.Fatal(err)
	}
	const all = session.LatencyBuckets * (session.LatencyBuckets + 1) / 2
	h = out.Histogram
	native, at := h.GetZeroCount(), int64(0)
	for _, delta := range h.PositiveDelta {
		at += delta
		native += uint64(at)
	}
	if h.GetSampleCount() != all || native != all || h.GetZeroCount() != 1 {
		t.Errorf("of %d there are %d, natively %d", all, h.GetSampleCount(), native)
	}
	if n := len(h.Bucket); n != session.LatencyLast-session.LatencyFirst+1 || h.Bucket[n-1].GetUpperBound() != 32 ||
		h.Bucket[n-1].GetCumulativeCount() != all-session.LatencyBuckets {
		t.Errorf("the last of %d buckets is %v", n, h.Bucket[n-1])
	}
}

// TestMetricsSay looks at what a gateway says of itself, and that every metric
// explains itself.
func TestMetricsSay(t *testing.T) {
	g := startGateway(t, "GATEWAY_LIMITS_SESSIONS=7")
	g.connect("alice")
	all := g.scrape()
	for name, f := range all {
		if strings.HasPrefix(name, "pushgate_") && len(f.GetHelp()) < 12 {
			t.Errorf("%s is explained by %q", name, f.GetHelp())
		}
		if n := len(f.Metric); n > 64 {
			t.Errorf("%s has %d series", name, n)
		}
	}
	for name, want := range map[string]float64{"pushgate_ready": 1, "pushgate_sessions_limit": 7} {
		if f := all[name]; f == nil || f.Metric[0].Gauge.GetValue() != want {
			t.Errorf("%s is %v, want %v", name, f, want)
		}
	}
	eventually(t, "nothing is on its way to NATS", func() bool {
		f := g.scrape()["pushgate_nats_unsent_bytes"]
		return f != nil && f.Metric[0].Gauge.GetValue() == 0
	})
	labels := map[string]string{}
	for _, l := range all["pushgate_build_info"].Metric[0].Label {
		labels[l.GetName()] = l.GetValue()
	}
	if len(labels) != 3 || labels["version"] == "" || labels["commit"] == "" || !strings.HasPrefix(labels["goversion"], "go") {
		t.Errorf("build_info says %v", labels)
	}
	eventually(t, "the session's memory is reckoned", func() bool {
		each := g.scrape()["pushgate_session_bytes"].Metric[0].Gauge.GetValue()
		return each > 50
	})
	g.draining.Store(true)
	if got := g.metric("pushgate_ready"); got != "0" {
		t.Errorf("while it drains ready is %s", got)
	}
}
