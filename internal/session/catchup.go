package session

// catchUp gives the loop's sessions, from the ring, the stored events that its
// mailbox had no room for, once nothing older waits.
func (l *loop) catchUp() {
	missed := l.box.behind()
	if missed == 0 || len(l.todo) > 0 || l.box.marks.Load() > 0 {
		return
	}
	got, through, _, ok := l.hub.ring.read(l.found[:0], everything, missed-1, mailboxBytes/16)
	l.found = got[:0]
	if !ok {
		_, through = l.hub.ring.span()
		l.tellSome(1, through, l.epoch)
	}
	for i, d := range got {
		if parked := l.deliver(d); parked {
			l.box.bytes.Add(d.cost())
		}
		got[i] = nil
	}
	l.caught = through
	l.box.caughtUp(func() uint64 { _, last := l.hub.ring.span(); return last }, missed, through)
}

var everything = []string{">"}
