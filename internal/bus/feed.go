package bus

import (
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"pushgate/api"
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
	now := time.Now()
	for {
		b.batch = b.batch[:0]
	collect:
		for len(b.batch) < maxBatch {
			select {
			case m := <-b.feed:
				if m == nil {
					break collect
				}
				b.batch = append(b.batch, event(b.root(m.Subject), m, now))
			default:
				break collect
			}
		}
		if len(b.batch) == 0 {
			return
		}
		b.received.Add(int64(len(b.batch)))
		b.deliver(b.batch)
		clear(b.batch)
	}
}

// root returns the length of the root that a message came under, with its dot.
func (b *Bus) root(subject string) int {
	for _, root := range b.roots() {
		if len(subject) > len(root) && subject[len(root)] == '.' && strings.HasPrefix(subject, root) {
			return len(root) + 1
		}
	}
	return 0
}

// event turns a message into an event. The event owns the payload: the client
// library made a copy for it.
func event(root int, m *nats.Msg, now time.Time) api.Event {
	e := api.Event{Subject: m.Subject[root:], Time: now, Data: m.Data}
	if len(m.Header) == 0 {
		return e
	}
	if e.ID = m.Header.Get("Nats-Msg-Id"); e.ID == "" {
		e.ID = m.Header.Get("ce-id")
	}
	media, _, _ := strings.Cut(m.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "text/plain":
		e.Format = api.FormatText
	case "application/octet-stream":
		e.Format = api.FormatBinary
	}
	return e
}
