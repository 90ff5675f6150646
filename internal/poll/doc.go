// Package poll is the floor that makes system calls, and the only one: it
// listens, accepts, waits for readiness, reads and writes raw sockets.
//
// A socket is an [FD], a plain number that costs its owner four bytes. A
// [Poller] waits for many of them at once; it is level-triggered: what was not
// read is reported again. A caller's 64-bit tag travels with each registration
// and comes back in each [Ready], so that the owner can tell a reused number
// from the one it meant (descriptors are reused at once by the kernel).
//
// Nothing here blocks except [Poller.Wait]: reads and writes return
// [ErrAgain]. No call but [Poller.Wake] and the [Listener]'s own may be made
// for one FD by two goroutines at a time; the owner's lock sees to it.
//
// [Detach] gives an FD up for an ordinary connection, whose goroutine may wait,
// and [Adopt] takes it back.
//
// On Linux this is epoll with raw system calls. Elsewhere, and on Linux with
// the build tag "portable", it is a plain twin with two goroutines a
// connection, so that the gateway runs on any laptop.
package poll

import "errors"

var (
	// ErrAgain says that the call would block: wait for readiness.
	ErrAgain = errors.New("poll: not ready")
	// ErrDescriptors says that no descriptor was left for a new connection
	// (EMFILE of the process, ENFILE of the machine).
	ErrDescriptors = errors.New("poll: out of descriptors")
	// ErrTurnedAway says that a connection was answered and ended as Shed does:
	// its descriptor had to become the reserve. There may be others to accept.
	ErrTurnedAway = errors.New("poll: turned away for want of a descriptor")
)

// Ready is one report of a [Poller].
type Ready struct {
	Tag   uint64
	Read  bool // there is something to read, an end or an error included
	Write bool // there is room to write
}

// SendBuffer caps what the kernel queues for one slow client, in bytes; the
// kernel's own default grows to 4 MiB. Linux doubles it for its bookkeeping,
// and goes over it by a packet.
const SendBuffer = 24 << 10

// maxSegment bounds a TCP segment, in bytes. No network that leaves the machine
// has larger ones; the loopback, and with it a proxy beside the gateway, has
// 64 KiB, of which the send buffer holds one at a time: then the receiver waits
// for a second one before it acknowledges, and each takes 40 ms.
const maxSegment = 16 << 10
