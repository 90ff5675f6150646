package session

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"pushgate/api"
)

// home is the form of the subjects that lead to one user, from a template
// such as "user.{sub}" or "user.{sub}.>": an event on one goes straight to
// that user's loop, and the other loops never hear of it.
type home struct {
	tokens []string // "" is the user's name, "*" any token
	user   int      // where in tokens the name is
	tail   bool     // more tokens may follow
}

func homesOf(templates []string) []home {
	var homes []home
	for _, t := range templates {
		tokens := strings.Split(t, ".")
		h := home{user: -1}
		fixed := true
		for i, token := range tokens {
			switch {
			case token == "{sub}" && h.user < 0:
				h.user = i
				token = ""
			case token == ">" && i == len(tokens)-1:
				h.tail = true
				continue
			case strings.Contains(token, "{"):
				fixed = false // needs other claims than the name
			}
			h.tokens = append(h.tokens, token)
		}
		if fixed && h.user >= 0 {
			homes = append(homes, h)
		}
	}
	return homes
}

// userOf returns the name in a subject or pattern of this form.
func (h *home) userOf(subject string) (string, bool) {
	user := ""
	for i, want := range h.tokens {
		token, rest, more := strings.Cut(subject, ".")
		switch want {
		case "":
			user = token
		case "*":
			if token == ">" {
				return "", false // reaches further down than this form
			}
		default:
			if token != want {
				return "", false
			}
		}
		if last := i == len(h.tokens)-1; last {
			return user, more == h.tail
		}
		if !more {
			return "", false
		}
		subject = rest
	}
	return "", false
}

// roaming counts what a loop's sessions hold that does not lead to it by name.
// The loop writes it; Hub.route reads it without a lock. A session is counted
// before its welcome goes out, so that no event passes it by.
type roaming struct {
	// patterns are subscriptions with wildcards, and those to another
	// user's subjects: any event may be meant.
	patterns atomic.Int32
	// literals counts by hash: zero is surely nobody, more is perhaps.
	literals [roamingSize]atomic.Int32
}

const roamingSize = 1 << 12

func roamingSlot(hash uint64) uint64 { return hash >> 20 % roamingSize }

// noteRoaming counts a subscription of s that came (by 1) or goes (by -1).
func (l *loop) noteRoaming(s *slot, name string, by int32) {
	foreign := false
	for i := range l.hub.homes {
		user, ok := l.hub.homes[i].userOf(name)
		if !ok {
			continue
		}
		if user == string(l.names.get(s.user)) {
			return // whatever matches it leads to this loop
		}
		foreign = true
	}
	if foreign || api.HasWildcard(name) {
		l.roaming.patterns.Add(by)
		return
	}
	l.roaming.literals[roamingSlot(maphash.String(l.hub.seed, name))].Add(by)
}

// route puts an event into the batches of the loops that may have takers.
func (h *Hub) route(e *api.Event, now time.Time) {
	var d *delivery
	homed := false
	for i := range h.homes {
		if user, ok := h.homes[i].userOf(e.Subject); ok {
			homed = true
			d = h.give(h.homeOf(user), d, e, now)
		}
	}
	slot := roamingSlot(maphash.String(h.seed, e.Subject))
	for i, l := range h.loops {
		if l.roaming.patterns.Load() > 0 || !homed && l.roaming.literals[slot].Load() > 0 {
			h.shared[i] = true
			d = h.give(l, d, e, now)
		}
	}
}

// give adds the event to a loop's batch, once.
func (h *Hub) give(l *loop, d *delivery, e *api.Event, now time.Time) *delivery {
	if d == nil {
		d = &delivery{event: *e, received: now}
	}
	if b := h.batches[l.number]; len(b) == 0 || b[len(b)-1] != d {
		h.batches[l.number] = append(b, d)
	}
	return d
}
