package bus

import (
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"pushgate/internal/poll"
)

// tap is the socket of the NATS connection. The client's read goroutine parses
// what a read has brought and puts the messages on the shared channel; when it
// comes back for more, the tap first delivers them, on that same goroutine.
//
// This spares a hop to a goroutine of ours for every batch, which thin traffic
// feels most: a wake-up each event. It is allowed to take its time: a slow
// delivery delays the next read, and so pushes back on the NATS server, which
// is better than a queue that grows here. A reconnect makes a new socket and
// with it a new tap; drain's lock keeps the two in order.
type tap struct {
	net.Conn
	b *Bus
}

func (t *tap) Read(p []byte) (int, error) {
	t.b.drain()
	return t.Conn.Read(p)
}

type tapDialer struct {
	b      *Bus
	dialer net.Dialer
}

// dialTimeout bounds one attempt to reach one server.
const dialTimeout = 2 * time.Second

// Dial implements nats.CustomDialer.
func (d *tapDialer) Dial(network, address string) (net.Conn, error) {
	if d.b.sequence != nil {
		d.b.sequence.doubt() // before the first message of this connection
	}
	d.dialer.Timeout = dialTimeout
	conn, err := d.dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if conn, err = poll.Blocking(tcp); err != nil {
			return nil, err
		}
	}
	return &tap{Conn: conn, b: d.b}, nil
}

// maxBatch is how many events are handed over at once.
const maxBatch = 256

// drain delivers what the shared channel holds.
func (b *Bus) drain() {
	if len(b.feed) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deliverAll()
}

// deliverAll is drain for who holds b.mu.
func (b *Bus) deliverAll() {
	now := time.Now()
	for more := true; more; {
		b.batch = b.batch[:0]
		for more && len(b.batch) < maxBatch {
			select {
			case m := <-b.feed:
				more = m != nil // it is nil when the channel is closed
				if more {
					b.take(m, now)
				}
			default:
				more = false
			}
		}
		if len(b.batch) > 0 {
			b.received.Add(int64(len(b.batch)))
			b.sink.Deliver(b.batch)
			clear(b.batch)
		}
	}
	if b.sequence != nil {
		b.sequence.note()
	}
}

// take adds a message to the batch.
func (b *Bus) take(m *nats.Msg, now time.Time) {
	root, subject := b.root(m.Subject)
	if b.sequence != nil && root == storedRoot {
		b.sequence.take(subject, m)
		return
	}
	if b.interest == nil || b.interest.counts(m, root, subject) {
		b.batch = append(b.batch, event(root, subject, m, now))
	}
}

// root tells which root a message came under, and the subject below it.
func (b *Bus) root(full string) (root int, subject string) {
	for i, root := range &b.roots {
		if len(full) > len(root) && full[len(root)] == '.' && strings.HasPrefix(full, root) {
			return i, full[len(root)+1:]
		}
	}
	return 0, full
}
