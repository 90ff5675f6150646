package bus

import (
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
)

// mux takes the answers to requests that are answered with several messages, on
// one subscription, which the first request makes.
type mux struct {
	mu    sync.Mutex
	inbox string
	last  uint64
	calls map[string]*call
}

// call is a request that is under way. Its messages are complete when it has
// ended, with the status that ended it as the last.
type call struct {
	reply    string
	messages []*nats.Msg
	ended    chan struct{}
}

func (x *mux) open(nc *nats.Conn) (*call, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inbox == "" {
		inbox := nc.NewInbox() + "."
		if _, err := nc.Subscribe(inbox+"*", x.take); err != nil {
			return nil, err
		}
		x.inbox, x.calls = inbox, make(map[string]*call)
	}
	x.last++
	c := &call{reply: x.inbox + strconv.FormatUint(x.last, 36), ended: make(chan struct{})}
	x.calls[c.reply] = c
	return c, nil
}

// forget ends the taking of answers. After it the call is the caller's alone.
func (x *mux) forget(c *call) {
	x.mu.Lock()
	delete(x.calls, c.reply)
	x.mu.Unlock()
}

// take gets every message on the inbox.
func (x *mux) take(m *nats.Msg) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.calls[m.Subject]
	if c == nil {
		return // nobody waits any more
	}
	c.messages = append(c.messages, m)
	if ends(m) {
		delete(x.calls, m.Subject)
		close(c.ended)
	}
}

// ends tells the status that ends an answer from a stored message. A publisher
// can store a message with a status, but the server adds where it is stored.
func ends(m *nats.Msg) bool {
	return m.Header.Get("Status") != "" && len(m.Header["Nats-Stream"]) == 0
}
