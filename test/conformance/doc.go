// Package conformance replays, against a real gateway, the cases by which
// WebSocket servers are commonly judged: those of the Autobahn test suite's
// fuzzing client, by its numbers, written anew from RFC 6455 and RFC 7692.
//
// The gateway is built with the tag echotest and asked for /v1/ws?echo=1: what
// it is sent comes back through the same reader and the same outbox as
// everything else. The client is a bare connection with a frame writer that
// can write anything wrong.
//
// A case is a script, what must have come back at its end, and how the
// connection must have ended: who began to close, with which codes, whether
// both close frames were seen, and that the server ended the TCP connection.
// A case is OK, NON-STRICT (allowed, but not as good), INFORMATIONAL (not
// judged), UNIMPLEMENTED (an extension that was offered and not taken) or
// FAILED. Of the 301 base cases, groups 1 to 10, 298 must be OK and 3
// informational. Groups 12 and 13 are about compression.
//
// Two things are stricter than in the original: a connection that the gateway
// fails must end with a close frame that says why, where a bare end would do
// there; and nothing but what the client sent may come back. Where the original
// waits a second and then judges, this waits for what is due, as long as a
// loaded machine may need.
//
//	go test -v ./test/conformance                        with the report
//	go test ./test/conformance -full                     all messages of the compression cases
//	go test ./test/conformance -gateway.tags portable    the gateway on the other twin of poll
package conformance
