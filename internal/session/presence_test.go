package session

import (
	"slices"
	"sync"
	"testing"

	"pushgate/api"
)

// guestbook notes who comes and goes.
type guestbook struct {
	mu    sync.Mutex
	lines []string
}

func (g *guestbook) Came(p api.Presence) { g.write("+", p) }
func (g *guestbook) Went(p api.Presence) { g.write("-", p) }

func (g *guestbook) write(sign string, p api.Presence) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, sign+p.User+" "+p.Reason)
}

func (g *guestbook) says(want ...string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Equal(g.lines, want)
}

// later lets some seconds pass for pollers.
func later(h *Hub, seconds uint16) {
	h.everywhere(func(l *loop) {
		for user, p := range l.pollers {
			p.left -= seconds
			l.pollers[user] = p
		}
		l.sweepPollers()
	})
}

// TestPollersArePresent: while they poll, and half a minute longer.
func TestPollersArePresent(t *testing.T) {
	var book guestbook
	// No time passes but what later says.
	a := storedHub(t, func(c *Config) { c.Presence, c.Now = &book, newStillClock().now })
	h := a.hub
	c, token := h.connect(t), grant(t, nil)
	c.poll("", token)
	c.poll("", token)
	if !book.says("+alice poll") || !slices.Equal(h.Online([]string{"bob", "alice", "alice"}), []string{"alice"}) {
		t.Errorf("%q", book.lines)
	}
	later(h.Hub, pollGrace/2)
	if !book.says("+alice poll") {
		t.Errorf("%q", book.lines)
	}
	// Who waits is there, however long.
	c.write(eventsHead("?wait=50s", token))
	eventually(t, "it is parked", func() bool { return h.Stats().Transports["poll"] == 1 })
	later(h.Hub, 2*pollGrace)
	if !book.says("+alice poll") {
		t.Errorf("%q", book.lines)
	}
	// Its grace begins with the answer.
	a.publish("user.alice")
	c.pollAnswer()
	eventually(t, "it is answered", func() bool { return h.Stats().Transports["poll"] == 0 })
	later(h.Hub, pollGrace/2)
	if !book.says("+alice poll") {
		t.Errorf("%q", book.lines)
	}
	later(h.Hub, pollGrace)
	if !book.says("+alice poll", "-alice silent") || len(h.Online([]string{"alice"})) > 0 {
		t.Errorf("%q", book.lines)
	}
	// It comes back, and the gateway goes.
	c.poll("", token)
	h.everywhere((*loop).leavePollers)
	if !book.says("+alice poll", "-alice silent", "+alice poll", "-alice drain") {
		t.Errorf("%q", book.lines)
	}
}
