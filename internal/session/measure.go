package session

import (
	"reflect"
	"time"
)

// lagTicks is how long, in seconds, the longest turn of a loop is remembered at
// least: longer than the usual way from scrape to scrape.
const lagTicks = 30

// lag keeps the longest turn of the last lagTicks to twice as many: so long may
// somebody who had something for the loop have waited.
type lag struct {
	now, before time.Duration // longest of this half, and of the one before
	since       uint16        // tick at which this half began
}

// worked counts a turn of the loop, or an entry into it, that began then.
func (l *loop) worked(began time.Time) {
	took := l.hub.cfg.Now().Sub(began)
	l.stats.busy.Add(int64(took))
	l.lag.now = max(l.lag.now, took)
}

// measure publishes, once a second, what only the loop may look at.
func (l *loop) measure() {
	if l.tick-l.lag.since >= lagTicks {
		l.lag = lag{before: l.lag.now, since: l.tick}
	}
	l.stats.lag.Store(int64(max(l.lag.now, l.lag.before)))
	l.stats.memory.Store(l.memory())
}

var (
	slotBytes    = int64(reflect.TypeFor[slot]().Size() + reflect.TypeFor[uint16]().Size())
	subjectBytes = int64(reflect.TypeFor[subject]().Size())
	listBytes    = int64(reflect.TypeFor[list]().Size())
	extraBytes   = int64(reflect.TypeFor[extra]().Size())
)

// memory is what the loop's sessions take in its tables, as far as these were
// ever touched: what is under way, and TLS, come on top.
func (l *loop) memory() int64 {
	n := int64(l.slots.top)*slotBytes + int64(l.subjects.subjects.size)*subjectBytes
	n += l.names.size() + l.users.size() + l.subjects.table.size()
	n += int64(len(l.subjects.lists))*listBytes + l.subjects.idBytes
	return n + int64(len(l.extras)-1)*extraBytes
}

// size is the bytes of the arena that names were ever laid in.
func (n *names) size() int64 {
	return int64(max(len(n.chunks)-1, 0))*nameChunk + int64(n.used)*nameUnit
}

// size is the table's bytes.
func (t *table) size() (bytes int64) {
	for i := range t.shards {
		bytes += int64(cap(t.shards[i].entries)) * 4
	}
	return bytes
}
