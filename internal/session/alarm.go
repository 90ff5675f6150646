package session

import "time"

// alarms are the times at which parked polls are answered, to the millisecond:
// a heap, earliest first. One whose session is gone by then is passed over.
type alarms []alarm

type alarm struct {
	at  int64 // Unix milliseconds
	tag uint64
}

func (a *alarms) add(at time.Time, tag uint64) {
	*a = append(*a, alarm{at.UnixMilli(), tag})
	h := *a
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].at <= h[i].at {
			return
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

// take removes the earliest alarm, if its time has come.
func (a *alarms) take(now time.Time) (tag uint64, ok bool) {
	h := *a
	if len(h) == 0 || h[0].at > now.UnixMilli() {
		return 0, false
	}
	tag = h[0].tag
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		next := 2*i + 1
		if next >= last {
			break
		}
		if next+1 < last && h[next+1].at < h[next].at {
			next++
		}
		if h[i].at <= h[next].at {
			break
		}
		h[i], h[next] = h[next], h[i]
		i = next
	}
	if *a = h; last == 0 && cap(h) > 1024 {
		*a = nil
	}
	return tag, true
}

// until is how long the earliest one is away in milliseconds, at most so long.
func (a alarms) until(now time.Time, most int) int {
	if len(a) == 0 {
		return most
	}
	return int(min(max(a[0].at-now.UnixMilli(), 0), int64(most)))
}

// ringAlarms answers the polls whose time is up.
func (l *loop) ringAlarms() {
	for {
		tag, ok := l.alarms.take(l.now)
		if !ok {
			return
		}
		id, gen := uint32(tag), uint32(tag>>32)
		if s := l.slots.at(id); s.gen == gen && s.state == stateOpen {
			l.timeUp(id, s)
		}
	}
}
