// Package bus is the floor that speaks NATS, and the only one of the service
// that does. It turns messages under the configured roots into [api.Event]s
// and hands them, in order, to whoever delivers them.
//
// Two ways to be interested:
//
//   - wildcard: one subscription a root; everything arrives, and the gateway
//     looks up locally who wants it. Costs nothing per user.
//   - exact: one subscription for each subject that some session wants, counted
//     by reference, all on one shared channel. Costs memory here and in the NATS
//     server per subject, and spares the traffic that nobody here wants. Stored
//     events come by wildcard all the same.
//
// Messages are delivered from the goroutine that reads the NATS connection
// (see tap): no hop, and batches form by themselves.
//
// # Stored events
//
// With [Config.Durable] what comes under the first root is stored in a JetStream
// stream, and the bus listens to the copies that the stream republishes: they
// carry their sequence. Every message is republished, so with each copy the
// next sequence is due (see order):
//
//   - a higher one shows a gap: what is missing is fetched, and the copies wait;
//   - a lower one came before, as the answer to a fetch. If it is younger than
//     what was handed on last, the stream may be another one of the same name;
//   - no copy at all may be a loss too, for only a stream's leader republishes,
//     and it may die between storing and that. So the stream is asked for its
//     last sequence every few seconds, and after each connect.
//
// Until it is known that the stream is still the same, after each connect for
// one request, its events wait. Events that are not stored never do. What cannot
// be had any more is told to the sink as lost.
//
// # Control
//
// With [Bus.ServeControl] every gateway is an instance of the NATS micro
// service "pushgate" and answers every request for its own sessions. Requests
// are handled on goroutines of their own, and wait for nothing:
//
//	revoke ──► Sessions.Revoke, at once ──► queue ──► bucket ──► reply
//	                                                    │
//	                  every gateway's watch ◄───────────┘──► Sessions.Revoke
//
// The bucket is JetStream's key-value bucket pushgate_revocations: a user's
// name in base64url leads to the time before which tokens of that user are
// refused. The time only grows, and goes with the bucket's TTL. One goroutine
// opens the bucket, applies what it holds and what comes, and begins again
// after each outage and when the bucket was made anew. Where there is no
// JetStream, revocations hold on the gateways that run, and the reply says so.
//
// # History
//
// What a gateway does not hold in memory any more comes with [Bus.Fetch]:
//
//	Fetch ──► queue ──► page ──► one lane a pattern ──► direct get, any replica
//	                     │              │
//	                     │              └──► where it ends: MSG.GET, the leader
//	                     └──► last: STREAM.INFO, the leader
//
// A replica applies the stream in order. So a message that it gives proves that
// nothing between is missing, but an end proves nothing: the replica may lag.
// Only the leader is believed about an end. And only what STREAM.INFO says after
// the last read proves that nothing was trimmed before it could be read, and
// that it was the same stream all the time.
//
// # Acknowledgements and receipts
//
// With [Bus.ServeAcks] what a client acknowledges is published at once, and how
// far its device has come is kept in the bucket pushgate_acks, where every
// gateway finds it:
//
//	Ack, Receipt ──► queue ──► one publisher ──► pushgate.ack.<user>, the reply
//	Keep ──► by user, for a moment ──► bucket ──► Place, on any gateway
//
// None of these waits, and none is sure: what NATS does not take is dropped and
// counted. A lost place costs a device a longer replay, never an event.
package bus
