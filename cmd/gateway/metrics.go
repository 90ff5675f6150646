package main

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics reads the floors' own counters when it is scraped: nothing is
// counted twice, and no label is made on a hot path. All labels are bounded
// and exist from the start, at zero.
type metrics struct {
	g *gateway

	sessions, halfOpen, outbox      *prometheus.Desc
	accepted, handshakes, badTokens *prometheus.Desc
	tokenCache, keyFetches          *prometheus.Desc
	revoked, revocationsStored      *prometheus.Desc
	ringEvents, ringBytes           *prometheus.Desc
	historyRequests, streamSequence *prometheus.Desc
	streamGaps, streamRepaired      *prometheus.Desc
	streamLost, streamStrangers     *prometheus.Desc
	acks, places, receipts          *prometheus.Desc
	presence                        *prometheus.Desc
	events, deliveries, drops       *prometheus.Desc
	closes, latency, busy           *prometheus.Desc
	natsUp, reconnects, natsWaiting *prometheus.Desc
	natsSubjects, tlsFailures       *prometheus.Desc
	stalled, stalls                 *prometheus.Desc
	polls, idle                     *prometheus.Desc
	limit, memory, memoryEach       *prometheus.Desc
	replays, replayed, ringAge      *prometheus.Desc
	historyErrors, historyWaiting   *prometheus.Desc
	natsRoom, natsUnsent, lag       *prometheus.Desc
	ready, build                    *prometheus.Desc

	version, commit string
}

func newMetrics(g *gateway) *metrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pushgate_"+name, help, labels, nil)
	}
	version, commit := buildVersion()
	return &metrics{
		g: g, version: version, commit: commit,

		limit:             d("sessions_limit", "Sessions that are let in at most."),
		memory:            d("session_tables_bytes", "Memory of what every session stands in: slots, names, subjects, users. Without what is under way, TLS and the kernel."),
		memoryEach:        d("session_bytes", "The same for each open session; after a peak it is more, until others take the room."),
		stalls:            d("stalls_total", "Times that a session's socket became full."),
		replays:           d("replays_total", "Replays by scope, a session that came back or one subject, and by result: all from the ring, some from the stream, or incomplete.", "scope", "result"),
		replayed:          d("replayed_events_total", "Events given to sessions by replays."),
		ringAge:           d("ring_age_seconds", "Age of the oldest stored event in memory: who was away for less costs NATS nothing."),
		historyErrors:     d("history_errors_total", "Reads of stored events from NATS that failed."),
		historyWaiting:    d("history_waiting", "Reads of stored events that wait for their turn."),
		natsRoom:          d("nats_waiting_limit", "Messages read from NATS that may wait; more are lost."),
		natsUnsent:        d("nats_unsent_bytes", "Bytes on their way to NATS that the socket has not taken yet."),
		lag:               d("loop_lag_seconds", "Longest turn of a loop in the last 30 to 60 seconds: so long somebody may have waited for it.", "loop"),
		ready:             d("ready", "Whether /readyz says ok."),
		build:             d("build_info", "Always 1; the labels say what runs.", "version", "commit", "goversion"),
		sessions:          d("sessions", "Open sessions.", "transport"),
		halfOpen:          d("half_open", "Connections that are no session yet: reading, verifying or refused."),
		stalled:           d("stalled_sessions", "Sessions whose sockets are full."),
		polls:             d("polls_total", "Polls answered with 200."),
		idle:              d("idle_connections", "Connections between two polls."),
		outbox:            d("outbox_bytes", "Bytes that wait for clients whose sockets are full."),
		accepted:          d("connections_total", "Connections accepted on the public listener."),
		tlsFailures:       d("tls_failures_total", "Connections whose TLS handshake failed."),
		handshakes:        d("handshakes_total", "Requests for a session by result: accepted, or the refusal's code.", "result"),
		badTokens:         d("token_refusals_total", "Tokens refused, by reason.", "reason"),
		tokenCache:        d("token_cache_total", "Tokens with public-key signatures, looked up among the verified ones.", "result"),
		keyFetches:        d("key_fetches_total", "Fetches of issuers' keys.", "result"),
		revoked:           d("revoked_users", "Users with a revocation in force."),
		revocationsStored: d("revocations_stored", "Whether revocations are kept in NATS, for gateways that start later."),
		ringEvents:        d("ring_events", "Stored events in memory."),
		ringBytes:         d("ring_bytes", "Bytes of stored events in memory."),
		historyRequests:   d("history_requests_total", "Requests to NATS for stored events that are not in memory."),
		streamSequence:    d("stream_sequence", "Sequence of the newest stored event that was handed on."),
		streamGaps:        d("stream_gaps_total", "Gaps in the stored events that came, noticed by sequence."),
		streamRepaired:    d("stream_repaired_total", "Stored events fetched to fill gaps."),
		streamLost:        d("stream_lost_total", "Times that stored events could not be got, and sessions were told."),
		streamStrangers:   d("stream_foreign_total", "Messages under the republish root that are not the stream's, or with forged headers."),
		acks:              d("acks_total", "Acknowledgements of clients, published or dropped.", "result"),
		places:            d("acked_places_total", "Acknowledged places written for devices.", "result"),
		receipts:          d("receipts_total", "Receipts of ephemeral events, sent or dropped.", "result"),
		presence:          d("presence_total", "Presence messages, sent or dropped.", "result"),
		events:            d("events_total", "Events that came from NATS."),
		deliveries:        d("deliveries_total", "Events given to sessions, counted per session."),
		drops:             d("drops_total", "Events dropped, by cause: expired and collapsed ones are counted for each session that they waited for.", "cause"),
		closes:            d("closes_total", "Sessions ended, by reason.", "reason"),
		latency:           d("delivery_seconds", "Time from an event's arrival to the write for its last local session."),
		busy:              d("loop_busy_seconds_total", "Time a loop has worked instead of waited.", "loop"),
		natsUp:            d("nats_connected", "Whether NATS is connected."),
		reconnects:        d("nats_reconnects_total", "Times that NATS came back."),
		natsWaiting:       d("nats_waiting_messages", "Messages read from NATS and not yet delivered."),
		natsSubjects:      d("nats_subjects", "Subjects subscribed to at NATS with interest exact."),
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
	gauge(m.limit, float64(m.g.limit))
	gauge(m.memory, float64(st.Memory))
	gauge(m.memoryEach, float64(st.Memory)/float64(max(st.Sessions, 1)))
	gauge(m.halfOpen, float64(st.HalfOpen))
	gauge(m.outbox, float64(st.Outbox))
	gauge(m.stalled, float64(st.Stalled))
	counter(m.stalls, float64(st.Stalls))
	counter(m.polls, float64(st.Polls))
	gauge(m.idle, float64(st.Idle))
	counter(m.accepted, float64(st.Accepted))
	counter(m.tlsFailures, float64(st.TLSFailures))
	counter(m.events, float64(st.Events))
	counter(m.deliveries, float64(st.Deliveries))
	for result, n := range st.Handshakes {
		counter(m.handshakes, float64(n), result)
	}
	for reason, n := range st.BadTokens {
		counter(m.badTokens, float64(n), reason)
	}
	tokens := m.g.auth.Stats()
	counter(m.tokenCache, float64(tokens.CacheHits), "hit")
	counter(m.tokenCache, float64(tokens.CacheMisses), "miss")
	counter(m.keyFetches, float64(tokens.Fetches-tokens.FetchesFailed), "ok")
	counter(m.keyFetches, float64(tokens.FetchesFailed), "failed")
	gauge(m.revoked, float64(tokens.Revoked))
	gauge(m.revocationsStored, boolean(nats.RevocationsStored))
	for reason, n := range st.Closes {
		counter(m.closes, float64(n), reason)
	}
	for cause, n := range st.Drops {
		counter(m.drops, float64(n), cause)
	}
	counter(m.drops, float64(nats.Dropped), "nats_client")
	for i, busy := range st.Busy {
		counter(m.busy, busy.Seconds(), strconv.Itoa(i))
		gauge(m.lag, st.Lag[i].Seconds(), strconv.Itoa(i))
	}
	for _, r := range st.Replays {
		counter(m.replays, float64(r.Count), r.Scope, r.Result)
	}
	counter(m.replayed, float64(st.Replayed))
	gauge(m.ringEvents, float64(st.RingEvents))
	gauge(m.ringBytes, float64(st.RingBytes))
	gauge(m.ringAge, st.RingAge.Seconds())
	history := m.g.bus.FetchStats()
	counter(m.historyRequests, float64(history.Requests))
	counter(m.historyErrors, float64(history.Errors))
	gauge(m.historyWaiting, float64(history.Waiting))
	gauge(m.streamSequence, float64(nats.Stream.Last))
	counter(m.streamGaps, float64(nats.Stream.Gaps))
	counter(m.streamRepaired, float64(nats.Stream.Repaired))
	counter(m.streamLost, float64(nats.Stream.Lost))
	counter(m.streamStrangers, float64(nats.Stream.Strangers+nats.Stream.Forged))
	for _, r := range []struct {
		desc   *prometheus.Desc
		result string
		n      int64
	}{
		{m.acks, "published", nats.AcksPublished}, {m.acks, "dropped", nats.AcksDropped},
		{m.places, "kept", nats.PlacesKept}, {m.places, "failed", nats.PlacesFailed},
		{m.receipts, "sent", nats.ReceiptsSent}, {m.receipts, "dropped", nats.ReceiptsDropped},
		{m.presence, "sent", nats.PresenceSent}, {m.presence, "dropped", nats.PresenceDropped},
	} {
		counter(r.desc, float64(r.n), r.result)
	}
	gauge(m.natsUp, boolean(nats.Connected))
	counter(m.reconnects, float64(nats.Reconnects))
	gauge(m.natsWaiting, float64(nats.Waiting))
	gauge(m.natsRoom, float64(nats.Room))
	gauge(m.natsUnsent, float64(nats.Unsent))
	gauge(m.natsSubjects, float64(nats.Subjects))
	gauge(m.ready, boolean(m.g.ready() == nil))
	gauge(m.build, 1, m.version, m.commit, runtime.Version())
	ch <- latencyMetric{m.latency, &st.Latency, st.LatencySum, m.g.began}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
