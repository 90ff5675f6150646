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
//     server per subject, and spares the traffic that nobody here wants.
//
// Messages are delivered from the goroutine that reads the NATS connection
// (see tap): no hop, and batches form by themselves.
package bus
