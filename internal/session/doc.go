// Package session holds the sessions of every transport: it accepts
// connections, reads their handshakes, keeps them in loops, fans events out to
// them and ends them.
//
// # The nouns
//
// A [Hub] is the sessions of one gateway. It spreads them over loops. A loop
// is one thread with one epoll, its sessions, their subjects, their deadlines
// and one mailbox. A user lives on one loop, hash(user) % loops: an event for
// a user touches one loop, an event for many goes to all.
//
// A session is a slot in its loop's slab: 64 bytes without a pointer. While
// bytes are under way, in or out, it borrows a traffic, which holds its outbox
// and the beginning of a frame; an idle session has none, and no goroutine,
// timer, buffer or closure either. Names of users and subjects lie in an
// arena; the index finds a subject's takers, literal or by pattern.
//
// # Who may touch what
//
// A loop's state has one lock. The loop's own thread holds it while it works.
// Who brings an event may enter with TryLock, when the loop has nothing to do
// that came before; everybody else posts to the mailbox. Nobody waits for a
// loop, and a loop waits for nobody: it never blocks on a write, a token, a
// log line or a channel. What must wait, it hands on: tokens go to a pool of
// verifiers, unless they are good and cost less than a write to tell so; log
// lines of endings go to a goroutine of their own.
//
// A tag, which epoll carries, and a session's id hold the slot's generation.
// A descriptor is closed only by the loop that owns it, so that a number that
// the kernel gives out again can meet no old session.
//
// # One connection
//
//	accepted ── head ──► handshake ──► admission ──► session ──► closed
//	              │           │            │
//	              └───────────┴────────────┴──► refused (answer, linger, close)
//
// A head is a connection whose request is being read, on the loop that
// accepted it. A handshake is a complete request on its way through the
// verifiers; it owns the descriptor. An admission is a verified handshake on
// its way to its user's home loop, which writes the 101 and the welcome in one
// go after the session stands in the index: no event passes in between.
//
// A session is open until close(reason), the one way to end, which counts it,
// logs it and takes it off the index at once. Then it is closing: its last
// bytes and the close frame are written, and the client's answer is awaited
// for a few seconds (or answered: the client began, RFC 6455 §7.1.1), and the
// slot is freed.
//
//	free ──admit──► open ──close(reason)──► closing ──answer, or time──► free
//	                  └──client's close──► answered ──ours written──────► free
//
// With TLS on the listener, a TLS handshake comes before the head: a goroutine
// makes it on an ordinary connection, under the head's limit and deadline, and
// gives the descriptor back (tlsPort). From then on head, handshake and
// session carry a wire, which their reads and writes go through.
//
// A session is of one of three transports: a WebSocket, an event stream, whose
// client says nothing, or a poll, which ends with its answer; then its
// connection is a head once more, kept for the next request.
//
// # One event
//
// [Hub.Deliver] gives an event to the loops that may have takers. A loop
// encodes it once, whoever asks first, appends the same bytes to each taker's
// outbox, and at the end of the tick writes each touched session once. More
// than a slice of takers make a broadcast: it goes out in slices, with the
// poller looked at in between, so that a unicast beside it is not held up;
// events of the same subject that come meanwhile go out together.
//
// # What is remembered
//
// The flight recorder keeps the newest happenings, in rings of fixed size, so
// that [Hub.Why] can say why an event did not arrive. Nothing is kept for a
// session that idles.
package session
