// Package api is Pushgate's wire contract as code: what an event is, how it
// looks to a client, what a client may say, how a session can end and how a
// request can be refused. It uses the standard library only and does no I/O,
// so that the gateway, its tools and its tests share one truth.
//
// The nouns:
//
//   - An [Event] is one message for clients. [AppendEvent] makes its one JSON
//     line, which is the same for everybody who receives it.
//   - A subject is a NATS-style dotted name without its root: a backend
//     publishes "push.user.alice", clients see "user.alice". A pattern is a
//     subject that may hold the wildcards * and >.
//   - A [Control] is what a client says to the gateway.
//   - A [Reason] is why a session ended: close code, metric label and log
//     field in one value.
//   - A [Refusal] is why a request never became a session.
package api
