package session

import (
	"slices"
	"time"

	"pushgate/api"
)

// maxHistory is how many happenings an answer has, the newest.
const maxHistory = 100

// inquiry is what is known of one user, and of one event where its id is given.
type inquiry struct {
	api.WhyRequest
	off      bool      // there is no recorder
	since    time.Time // the recorder remembers what came behind it
	sessions []api.SessionInfo
	polls    bool // it is present as one who polls

	entries  []happening // at the hub about the event; at the home about the user or the event
	mine     []bool      // by entry: it is of one of the user's sessions
	ids      []string    // by entry: that session's id
	turnings []turning   // the user's sessions, begun and ended, and those refused
}

// Why tells what became of a user, and of an event, as far as this hub knows.
func (h *Hub) Why(q api.WhyRequest) api.Why {
	in := &inquiry{WhyRequest: q, off: h.cfg.FlightEvents == 0}
	in.sessions, _ = h.SessionsOf(q.User, inspectSlice)
	since := h.began.UnixNano()
	if q.ID != "" {
		since = max(since, in.readHub(h))
	}
	h.flight.refusing.Lock()
	h.flight.refusals.all(func(t *turning) { in.addTurning(t) })
	h.flight.refusing.Unlock()
	h.call(h.homeOf(q.User), func(l *loop) { since = max(since, in.readHome(l)) })
	in.since = time.Unix(0, since).UTC()
	slices.SortStableFunc(in.turnings, func(a, b turning) int { return int(min(max(a.at-b.at, -1), 1)) })

	answer := api.Why{
		User: q.User, ID: q.ID, Online: len(in.sessions) > 0 || in.polls, Since: in.since,
		Sessions: in.sessions, History: in.history(), Verdict: in.verdict(),
	}
	return answer
}

// readHub takes what the hub knows of the event. It returns how far back that
// reaches.
func (in *inquiry) readHub(h *Hub) int64 {
	h.flight.mu.Lock()
	defer h.flight.mu.Unlock()
	h.flight.events.all(func(e *happening) {
		if e.hasID(in.ID) {
			in.add(*e, false, "")
		}
	})
	return h.flight.events.since(func(e *happening) int64 { return e.at })
}

// readHome takes what the user's loop knows. It returns how far back its events
// reach.
func (in *inquiry) readHome(l *loop) int64 {
	_, in.polls = l.pollers[in.User]
	whose := l.sessionsEver(in.User)
	l.flight.events.all(func(e *happening) {
		key := sessionKey{e.slot, e.gen}
		id, mine := whose[key]
		switch {
		case e.what == wasClosed: // sessions tell it
		case e.slot == nil && in.ID != "" && e.hasID(in.ID):
			in.add(*e, false, "")
		case mine && (in.ID == "" || !e.what.ofEvent() || e.hasID(in.ID)):
			in.add(*e, true, id)
		}
	})
	l.flight.sessions.all(func(t *turning) { in.addTurning(t) })
	return l.flight.events.since(func(e *happening) int64 { return e.at })
}

// sessionKey is a session that may be over.
type sessionKey struct {
	slot *slot
	gen  uint32
}

// sessionsEver are a user's sessions, those included that are over and that the
// recorder still has something about, with their ids.
func (l *loop) sessionsEver(user string) map[sessionKey]string {
	ever := make(map[sessionKey]string)
	key := []byte(user)
	for id := l.users.find(l.hub.hash(key), key); id != 0; {
		s := l.slots.at(id)
		ever[sessionKey{s, s.gen}] = l.hub.ids.id(l.number, id, s.gen)
		id = s.next
	}
	l.flight.events.all(func(e *happening) {
		if (e.what == wasClosed || e.what == wasPolled) && e.subject == user {
			ever[sessionKey{e.slot, e.gen}] = l.hub.ids.id(l.number, e.count, e.gen)
		}
	})
	return ever
}

// since is the time of the oldest entry, where older ones were given up.
func (r *recent[T]) since(at func(*T) int64) int64 {
	if !r.full {
		return 0
	}
	return at(&r.entries[r.next])
}

func (in *inquiry) add(e happening, mine bool, session string) {
	in.entries, in.mine, in.ids = append(in.entries, e), append(in.mine, mine), append(in.ids, session)
}

func (in *inquiry) addTurning(t *turning) {
	if t.user == in.User {
		in.turnings = append(in.turnings, *t)
	}
}

// history is all of it in the order of time.
func (in *inquiry) history() []api.Happening {
	all := make([]api.Happening, 0, len(in.entries)+len(in.turnings)+len(in.Away))
	for i, e := range in.entries {
		h := api.Happening{
			Time: time.Unix(0, e.at).UTC(), What: e.what.String(), Subject: e.subject, ID: e.idText(),
			Seq: e.seq, Session: in.ids[i], Count: int(e.count),
		}
		switch e.what {
		case wasDropped:
			h.Reason = DropCause(e.why).String()
		case wasPolled:
			h.Subject, h.Count = "", 0 // the user and the slot: for the recorder itself
		}
		all = append(all, h)
	}
	for _, t := range in.turnings {
		all = append(all, api.Happening{
			Time: time.Unix(0, t.at).UTC(), What: t.what.String(), Subject: t.subject, Session: t.session, Reason: t.reason,
		})
	}
	for _, o := range in.Away {
		if o.To.After(in.since) {
			all = append(all, api.Happening{Time: o.From.UTC(), What: "nats_away", Reason: "until " + clock(o.To)})
		}
	}
	slices.SortStableFunc(all, func(a, b api.Happening) int { return a.Time.Compare(b.Time) })
	return all[max(len(all)-maxHistory, 0):]
}

// clock is a time as verdicts tell it.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
