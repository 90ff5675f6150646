//go:build linux && !portable

package session

import (
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
