package session

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pushgate/api"
)

// verdict is the cause in one plain sentence.
func (in *inquiry) verdict() string {
	switch {
	case in.ID == "":
		return in.userVerdict()
	case in.off:
		return "this gateway keeps no record: flight.events is 0"
	}
	first := in.find(func(e *happening, mine bool) bool { return e.idLen > 0 })
	if first == nil {
		return in.unseen()
	}
	if v := in.entered(); v != "" {
		return v
	}
	if v := in.given(); v != "" {
		return v
	}
	if v := in.broadcast(first); v != "" {
		return v
	}
	return in.untaken(first)
}

// find returns the newest entry of which that holds, or nil.
func (in *inquiry) find(holds func(e *happening, mine bool) bool) *happening {
	for i, e := range slices.Backward(in.entries) {
		if holds(&e, in.mine[i]) {
			return &in.entries[i]
		}
	}
	return nil
}

// turned returns the newest of the user's beginnings, ends or refusals of which
// that holds, or nil.
func (in *inquiry) turned(holds func(t *turning) bool) *turning {
	for i, t := range slices.Backward(in.turnings) {
		if holds(&t) {
			return &in.turnings[i]
		}
	}
	return nil
}

func (e *happening) clock() string { return clock(time.Unix(0, e.at)) }
func (t *turning) clock() string   { return clock(time.Unix(0, t.at)) }

// unseen is of an event that has left no trace.
func (in *inquiry) unseen() string {
	v := fmt.Sprintf("%s was not seen by this gateway since %s", in.ID, clock(in.since))
	if away := in.away(); away != nil {
		return fmt.Sprintf("%s: NATS was away from %s to %s, and what was published without being stored meanwhile is lost", v, clock(away.From), clock(away.To))
	}
	v += ": it was never published under the gateway's roots, or came before that"
	if in.Dropped > 0 {
		v += fmt.Sprintf(", or is one of %d messages that came faster than they were taken", in.Dropped)
	}
	if len(in.sessions) == 0 {
		v += "; and " + in.absent()
	}
	return v
}

// away is the last outage that the recorder's time knows of.
func (in *inquiry) away() *api.Outage {
	for i, o := range slices.Backward(in.Away) {
		// The first one is the start: nobody had connected yet.
		if i > 0 && o.To.After(in.since) || i == 0 && o.To.Sub(o.From) > time.Minute {
			return &in.Away[i]
		}
	}
	return nil
}

// entered is of an event that the gateway itself has dropped.
func (in *inquiry) entered() string {
	e := in.find(func(e *happening, mine bool) bool { return e.what == wasDropped && e.slot == nil })
	if e == nil {
		return ""
	}
	switch DropCause(e.why) {
	case DropTooLarge:
		return fmt.Sprintf("%s was dropped at %s: it is larger than limits.event_bytes", in.ID, e.clock())
	case DropSubject:
		return fmt.Sprintf("%s was dropped at %s: nobody can subscribe to its subject", in.ID, e.clock())
	case DropMailbox:
		if e.seq > 0 {
			return "" // it is caught up with from memory
		}
		return fmt.Sprintf("%s was dropped at %s: this gateway's CPUs were too far behind", in.ID, e.clock())
	case DropCollapsed:
		return fmt.Sprintf("%s was replaced at %s by a newer event with the same Push-Collapse, before it was written", in.ID, e.clock())
	}
	return fmt.Sprintf("%s was dropped at %s: its Push-TTL was over before it could be written", in.ID, e.clock())
}

// given is of an event that was given to the user's sessions.
func (in *inquiry) given() string {
	if e := in.find(func(e *happening, mine bool) bool { return mine && e.what == wasDropped }); e != nil {
		switch DropCause(e.why) {
		case DropSlow:
			return fmt.Sprintf("%s was dropped for %s at %s: it is a slow consumer, and the policy of %s drops what does not fit", in.ID, in.User, e.clock(), e.subject)
		case DropCollapsed:
			return fmt.Sprintf("%s waited for %s's socket, which was full, and was replaced at %s by a newer event with the same Push-Collapse", in.ID, in.User, e.clock())
		}
		return fmt.Sprintf("%s waited for %s's socket until its Push-TTL was over, at %s", in.ID, in.User, e.clock())
	}
	e := in.find(func(e *happening, mine bool) bool { return mine && e.what == wasQueued })
	if e == nil {
		return ""
	}
	session := in.sessionOf(e)
	v := fmt.Sprintf("%s was given to %s at %s", in.ID, in.User, e.clock())
	if e.seq > 0 && in.acknowledged(e.seq) {
		return v + ", and the client has acknowledged it"
	}
	if end := in.turned(func(t *turning) bool { return t.what == wasClosed && t.session == session }); end != nil {
		return v + fmt.Sprintf(", but its session ended at %s (%s) and the client may not have read it", end.clock(), plainReason(end.reason))
	}
	if i := slices.IndexFunc(in.sessions, func(s api.SessionInfo) bool { return s.Session == session }); i >= 0 && in.sessions[i].Waiting > 0 {
		return v + fmt.Sprintf(", but %d bytes still wait for the client to read: its network takes nothing", in.sessions[i].Waiting)
	}
	return v + "; the client has not acknowledged it"
}

// acknowledged reports whether one of the user's clients has a stored event.
func (in *inquiry) acknowledged(seq uint64) bool {
	return in.find(func(e *happening, mine bool) bool { return mine && e.what == wasAcknowledged && e.seq >= seq }) != nil
}

// sessionOf is the id of an entry's session.
func (in *inquiry) sessionOf(e *happening) string {
	for i := range in.entries {
		if &in.entries[i] == e {
			return in.ids[i]
		}
	}
	return ""
}

// broadcast is of an event that went to many, of which one record is kept.
func (in *inquiry) broadcast(first *happening) string {
	e := in.find(func(e *happening, mine bool) bool { return e.what == wasBroadcast })
	if e == nil {
		return ""
	}
	for _, s := range in.sessions {
		if s.Connected.UnixNano() <= first.at && slices.ContainsFunc(s.Subjects, func(p string) bool { return api.Match(p, e.subject) }) {
			v := fmt.Sprintf("%s went to %d sessions at %s, and %s has one that takes %s", in.ID, e.count, e.clock(), in.User, e.subject)
			if e.seq > 0 && in.acknowledged(e.seq) {
				v += ": the client has acknowledged it"
			}
			return v
		}
	}
	return ""
}

// untaken is of an event that came and was given to none of the user's
// sessions.
func (in *inquiry) untaken(e *happening) string {
	v := fmt.Sprintf("%s came at %s on %s", in.ID, e.clock(), e.subject)
	if r := in.find(func(r *happening, mine bool) bool {
		return mine && r.what == wasReplayed && e.seq > 0 && r.seq >= e.seq && r.at >= e.at
	}); r != nil {
		return fmt.Sprintf("%s, and %s had everything up to it by a replay at %s", v, in.User, r.clock())
	}
	end := in.turned(func(t *turning) bool { return t.what == wasClosed && t.at >= e.at })
	began := in.turned(func(t *turning) bool { return t.what == wasOpened && t.at <= e.at })
	if end != nil && end.reason == api.ReasonSlow.String() && began != nil && began.session == end.session {
		return fmt.Sprintf("%s, and %s's session was closed at %s as a slow consumer: its outbox was full", v, in.User, end.clock())
	}
	if len(in.sessions) == 0 {
		return v + "; " + in.absent()
	}
	if r := in.refusedSubject(e.subject); r != "" {
		return v + "; " + r
	}
	var subjects []string
	earlier := false
	for _, s := range in.sessions {
		subjects = append(subjects, s.Subjects...)
		if !s.Connected.IsZero() && s.Connected.UnixNano() <= e.at {
			earlier = true
		}
	}
	if !slices.ContainsFunc(subjects, func(p string) bool { return api.Match(p, e.subject) }) {
		slices.Sort(subjects)
		return fmt.Sprintf("%s, and %s has no subscription that takes it, only %s", v, in.User, strings.Join(slices.Compact(subjects), ", "))
	}
	switch {
	case !earlier:
		return v + "; " + in.User + " has connected since then"
	case in.sessions[0].Behind:
		return v + "; " + in.User + " is still being given what it missed"
	}
	return v + "; the recorder has no more of it"
}

// refusedSubject tells of the last time that the user was refused a subject that
// takes this one.
func (in *inquiry) refusedSubject(subject string) string {
	takes := func(asked string) bool { return asked != "" && api.Match(asked, subject) }
	if e := in.find(func(e *happening, mine bool) bool { return mine && e.what == wasForbidden && takes(e.subject) }); e != nil {
		return fmt.Sprintf("%s's token does not grant %s: a subscribe was refused at %s", in.User, e.subject, e.clock())
	}
	if t := in.turned(func(t *turning) bool { return t.what == wasRefused && takes(t.subject) }); t != nil {
		return fmt.Sprintf("%s's token does not grant %s: a handshake was refused at %s", in.User, t.subject, t.clock())
	}
	return ""
}

// absent says why the user is not here.
func (in *inquiry) absent() string {
	v := in.User + " has no session here"
	t := in.turned(func(t *turning) bool { return t.what != wasOpened })
	switch {
	case t == nil && in.polls:
		return in.User + " polls: what is stored comes with the next poll"
	case t == nil:
		return v
	case t.what == wasRefused && t.subject != "":
		return fmt.Sprintf("%s: a handshake was refused at %s, since its token does not grant %s", v, t.clock(), t.subject)
	case t.what == wasRefused:
		return fmt.Sprintf("%s: a handshake was refused at %s (%s)", v, t.clock(), t.reason)
	}
	return fmt.Sprintf("%s: the last one ended at %s (%s)", v, t.clock(), plainReason(t.reason))
}

// plainReason is an ending's label as a reader wants it.
func plainReason(label string) string { return strings.ReplaceAll(label, "_", " ") }

// userVerdict is about the user alone.
func (in *inquiry) userVerdict() string {
	if len(in.sessions) == 0 {
		return in.absent()
	}
	v := fmt.Sprintf("%s is here with %d sessions", in.User, len(in.sessions))
	if len(in.sessions) == 1 {
		v = in.User + " is here with one session"
	}
	for _, s := range in.sessions {
		if s.Waiting > 0 {
			return fmt.Sprintf("%s, and %d bytes wait for the client to read: its network takes nothing", v, s.Waiting)
		}
	}
	if e := in.find(func(e *happening, mine bool) bool { return mine && e.what == wasDropped }); e != nil {
		return fmt.Sprintf("%s; an event was dropped for it at %s (%s)", v, e.clock(), DropCause(e.why))
	}
	if e := in.find(func(e *happening, mine bool) bool { return mine && e.what == wasForbidden }); e != nil {
		return fmt.Sprintf("%s; it was refused %s at %s: its token does not grant it", v, e.subject, e.clock())
	}
	if away := in.away(); away != nil {
		return fmt.Sprintf("%s; NATS was away from %s to %s", v, clock(away.From), clock(away.To))
	}
	return v + ", and nothing was dropped for it since " + clock(in.since)
}
