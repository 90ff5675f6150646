//go:build linux && !portable

package session

import (
	"net/http"
	"testing"

	"golang.org/x/sys/unix"
)

// A socket that breaks at the moment when its session is told that its place is
// not to be had costs nobody else.
func TestBrokenWhileTold(t *testing.T) {
	a := storedHub(t, one)
	a.join(t, grant(t, nil), "cursor=s1.100")
	a.hub.call(a.hub.loops[0], func(l *loop) {
		id, s := l.only()
		l.tick += aheadTicks + 1
		l.queue(id, s, make([]byte, l.hub.cfg.OutboxBytes))
		_ = unix.Shutdown(int(s.fd), unix.SHUT_RDWR)
		l.sweepSkips()
		l.tick -= aheadTicks + 1
	})
	eventually(t, "the broken one is gone", func() bool { return a.hub.open.Load() == 0 })
	a.join(t, grant(t, nil), "")
}

// A request that came in time is not refused because the loop comes to it late.
func TestRequestWasThereInTime(t *testing.T) {
	h := startHub(t, func(c *Config) { c.Now, c.Loops = newStillClock().now, 1 })
	c := h.connect(t)
	eventually(t, "it is accepted", func() bool { return h.halfOpen.Load() == 1 })
	h.call(h.loops[0], func(l *loop) {
		if _, err := c.Write([]byte(upgradeHead("alice"))); err != nil {
			t.Error(err)
		}
		there := []unix.PollFd{{Fd: int32(l.heads[1].fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(there, -1)
			if n == 1 {
				break
			}
			if err != nil && err != unix.EINTR {
				t.Error(err)
				return
			}
		}
		l.tick += headTicks
		l.sweepHeads()
		l.tick -= headTicks
	})
	if _, resp, body := c.answer(t); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("answered %d %s", resp.StatusCode, body)
	}
}
