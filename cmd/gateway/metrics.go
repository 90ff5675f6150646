package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"pushgate/internal/session"
)

// metrics reads the floors' own counters when it is scraped: nothing is
// counted twice, and no label is made on a hot path. All labels are bounded
// and exist from the start, at zero.
type metrics struct {
	g *gateway

	sessions, halfOpen, outbox      *prometheus.Desc
	accepted, handshakes, badTokens *prometheus.Desc
	events, deliveries, drops       *prometheus.Desc
	closes, latency, busy           *prometheus.Desc
	natsUp, reconnects, natsWaiting *prometheus.Desc
	natsSubjects                    *prometheus.Desc
}

func newMetrics(g *gateway) *metrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pushgate_"+name, help, labels, nil)
	}
	return &metrics{
		g:            g,
		sessions:     d("sessions", "Open sessions.", "transport"),
		halfOpen:     d("half_open", "Connections that are no session yet: reading, verifying or refused."),
		outbox:       d("outbox_bytes", "Bytes that wait for clients whose sockets are full."),
		accepted:     d("connections_total", "Connections accepted on the public listener."),
		handshakes:   d("handshakes_total", "Requests for a session by result: accepted, or the refusal's code.", "result"),
		badTokens:    d("token_refusals_total", "Tokens refused, by reason.", "reason"),
		events:       d("events_total", "Events that came from NATS."),
		deliveries:   d("deliveries_total", "Events given to sessions, counted per session."),
		drops:        d("drops_total", "Events dropped before any session got them, by cause.", "cause"),
		closes:       d("closes_total", "Sessions ended, by reason.", "reason"),
		latency:      d("delivery_seconds", "Time from an event's arrival to the write for its last local session."),
		busy:         d("loop_busy_seconds_total", "Time a loop has worked instead of waited.", "loop"),
		natsUp:       d("nats_connected", "Whether NATS is connected."),
		reconnects:   d("nats_reconnects_total", "Times that NATS came back."),
		natsWaiting:  d("nats_waiting_messages", "Messages read from NATS and not yet delivered."),
		natsSubjects: d("nats_subjects", "Subjects subscribed to at NATS with interest exact."),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	st, nats := m.g.hub.Stats(), m.g.bus.Stats()
	for transport, n := range st.Transports {
		gauge(m.sessions, float64(n), transport)
	}
	gauge(m.halfOpen, float64(st.HalfOpen))
	gauge(m.outbox, float64(st.Outbox))
	counter(m.accepted, float64(st.Accepted))
	counter(m.events, float64(st.Events))
	counter(m.deliveries, float64(st.Deliveries))
	for result, n := range st.Handshakes {
		counter(m.handshakes, float64(n), result)
	}
	for reason, n := range st.BadTokens {
		counter(m.badTokens, float64(n), reason)
	}
	for reason, n := range st.Closes {
		counter(m.closes, float64(n), reason)
	}
	for cause, n := range st.Drops {
		counter(m.drops, float64(n), cause)
	}
	counter(m.drops, float64(nats.Dropped), "nats_client")
	for i, busy := range st.Busy {
		counter(m.busy, busy.Seconds(), strconv.Itoa(i))
	}
	up := 0.0
	if nats.Connected {
		up = 1
	}
	gauge(m.natsUp, up)
	counter(m.reconnects, float64(nats.Reconnects))
	gauge(m.natsWaiting, float64(nats.Waiting))
	gauge(m.natsSubjects, float64(nats.Subjects))

	buckets := make(map[float64]uint64, session.LatencyBuckets)
	var total uint64
	for i, n := range st.Latency {
		total += uint64(n)
		if i < session.LatencyBuckets-1 {
			buckets[float64(uint64(1)<<i)/1e6] = total
		}
	}
	ch <- prometheus.MustNewConstHistogram(m.latency, total, st.LatencySum.Seconds(), buckets)
}
