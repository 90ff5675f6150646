package session

// replayScope is what a replay was of, replayResult how it went: metric labels.
type (
	replayScope  uint8
	replayResult uint8
)

const (
	replaySession replayScope = iota // a session that came back with a cursor
	replaySubject                    // one subject, subscribed to with a place
	replayScopes
)

const (
	replayRing       replayResult = iota // all of it came from memory, or there was nothing to come
	replayStream                         // some of it had to be asked of NATS
	replayIncomplete                     // something could not be had, and the client was told
	replayResults
)

var (
	replayScopeLabels  = [replayScopes]string{"session", "subject"}
	replayResultLabels = [replayResults]string{"ring", "stream", "incomplete"}
)

// ReplayCount is how many replays of a scope went so.
type ReplayCount struct {
	Scope, Result string
	Count         int64
}

func (l *loop) countReplay(scope replayScope, result replayResult) {
	l.stats.replays[scope][result].Add(1)
}

// outcome is what is counted of a replay that is through.
func (r *replay) outcome() (replayScope, replayResult) {
	scope, result := replaySubject, replayRing
	if r.whole {
		scope = replaySession
	}
	switch {
	case !r.complete:
		result = replayIncomplete
	case r.fetches > 0:
		result = replayStream
	}
	return scope, result
}

// replayCounts adds up what the loops have counted.
func (h *Hub) replayCounts() (counts []ReplayCount, events int64) {
	for scope := range replayScopes {
		for result := range replayResults {
			c := ReplayCount{Scope: replayScopeLabels[scope], Result: replayResultLabels[result]}
			for _, l := range h.loops {
				c.Count += l.stats.replays[scope][result].Load()
			}
			counts = append(counts, c)
		}
	}
	for _, l := range h.loops {
		events += l.stats.replayed.Load()
	}
	return counts, events
}
