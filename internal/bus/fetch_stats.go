package bus

import "sync/atomic"

// FetchStats is a reading of what getting stored events has taken since the
// start.
type FetchStats struct {
	Requests   uint64 // to NATS
	Messages   uint64 // that they brought
	Shared     uint64 // reads that waited for an equal one instead
	Lagged     uint64 // times that a replica had not reached what was asked for
	Forged     uint64 // messages with headers that are the server's to write
	Unreadable uint64 // messages left out because nobody can read them
	Errors     uint64 // fetches that failed
	Waiting    int    // fetches that wait for their turn now
}

type fetchCounters struct {
	requests, messages, shared, lagged, forged, unreadable, errors atomic.Uint64
}

// FetchStats reads the figures; they need not be of one moment.
func (b *Bus) FetchStats() FetchStats {
	f := b.fetcher
	if f == nil {
		return FetchStats{}
	}
	f.mu.Lock()
	waiting := len(f.queue)
	f.mu.Unlock()
	c := &f.stats
	return FetchStats{
		Requests: c.requests.Load(), Messages: c.messages.Load(), Shared: c.shared.Load(), Lagged: c.lagged.Load(),
		Forged: c.forged.Load(), Unreadable: c.unreadable.Load(), Errors: c.errors.Load(), Waiting: waiting,
	}
}
