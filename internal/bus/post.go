package bus

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"
)

// maxPost is how many small messages wait to be published.
const maxPost = 8192

// post publishes small messages for goroutines that may not wait. The client
// library makes a publisher wait while it writes to the socket, so that one
// goroutine here does it for all. What cannot be published now is dropped:
// nobody is interested in it later.
type post struct {
	b        *Bus
	queue    chan letter
	stopping chan struct{}
	stopOnce sync.Once
	done     chan struct{} // closed when nothing more is published
}

type letter struct {
	subject string
	body    any // JSON
	to      *posted
}

// posted counts what became of letters of one kind.
type posted struct{ sent, dropped atomic.Int64 }

func newPost(b *Bus) *post {
	return &post{b: b, queue: make(chan letter, maxPost), stopping: make(chan struct{}), done: make(chan struct{})}
}

// send never waits.
func (p *post) send(l letter) {
	select {
	case <-p.stopping:
		l.to.dropped.Add(1)
		return
	default:
	}
	if !p.b.Connected() {
		l.to.dropped.Add(1)
		return
	}
	select {
	case p.queue <- l:
	default:
		l.to.dropped.Add(1)
	}
}

func (p *post) run() {
	defer close(p.done)
	for {
		select {
		case l := <-p.queue:
			p.publish(l)
		case <-p.stopping:
			for len(p.queue) > 0 {
				p.publish(<-p.queue)
			}
			return
		}
	}
}

func (p *post) publish(l letter) {
	// While NATS is away the client library would keep it for later.
	if p.b.Connected() {
		data, err := json.Marshal(l.body)
		if err == nil && p.b.conn.Publish(l.subject, data) == nil {
			l.to.sent.Add(1)
			return
		}
	}
	l.to.dropped.Add(1)
}

// stop publishes what waits. It needs the connection, and is for before its
// end.
func (p *post) stop() {
	p.stopOnce.Do(func() { close(p.stopping) })
	limit := time.NewTimer(stopWithin)
	defer limit.Stop()
	select {
	case <-p.done:
	case <-limit.C: // the socket takes nothing; it ends with the connection
	}
}
