package session

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"pushgate/api"
)

// home is the form of the subjects that lead to one user, from a template
// such as "user.{sub}" or "user.{sub}.>": an event on one goes straight to
// that user's loop, and the other loops never hear of it.
type home struct {
	issuer string   // with its slash: what stands before the user's name in the subject
	tokens []string // "" is the user's name, "*" any token
	tail   bool     // more tokens may follow
}

// homesOf takes the templates by their issuer's name, "" where it has none.
func homesOf(templates map[string][]string) []home {
	var homes []home
	for issuer, all := range templates {
		if issuer != "" {
			issuer += "/"
		}
		for _, t := range all {
			if h, ok := parseHome(t); ok {
				h.issuer = issuer
				homes = append(homes, h)
			}
		}
	}
	return homes
}

func parseHome(template string) (h home, ok bool) {
	tokens := strings.Split(template, ".")
	fixed := true
	for i, token := range tokens {
		switch {
		case token == "{sub}" && !ok:
			ok = true
			token = ""
		case token == ">" && i == len(tokens)-1:
			h.tail = true
			continue
		case strings.Contains(token, "{"):
			fixed = false // needs other claims than the name
		}
		h.tokens = append(h.tokens, token)
	}
	return h, ok && fixed
}

// user appends the user that a subject or pattern of this form leads to.
func (h *home) user(dst []byte, subject string) ([]byte, bool) {
	name := ""
	for i, want := range h.tokens {
		token, rest, more := strings.Cut(subject, ".")
		switch want {
		case "":
			name = token
		case "*":
			if token == ">" {
				return dst, false // reaches further down than this form
			}
		default:
			if token != want {
				return dst, false
			}
		}
		if last := i == len(h.tokens)-1; last {
			return append(append(dst, h.issuer...), name...), more == h.tail
		}
		if !more {
			return dst, false
		}
		subject = rest
	}
	return dst, false
}

// roaming counts what a loop's sessions hold that does not lead to it by name.
// The loop writes it; Hub.route reads it without a lock. A session is counted
// before its welcome goes out, so that no event passes it by.
type roaming struct {
	// anywhere are patterns that begin with a wildcard: any event may be
	// meant.
	anywhere atomic.Int32
	// roots counts the other patterns by their first token, literals whole
	// subjects, both by hash: zero is surely nobody, more is perhaps.
	roots, literals [roamingSize]atomic.Int32
}

// roamers count over all loops what spares most events a look at each: as long
// as there are none, an event that leads to a user goes there and is done.
type roamers struct {
	patterns atomic.Int64 // with wildcards
	foreign  atomic.Int64 // literals that lead by name to somebody else
}

const roamingSize = 1 << 12

func (h *Hub) roamingSlot(name string) uint64 {
	return maphash.String(h.seed, name) >> 20 % roamingSize
}

// noteRoaming counts a subscription of s that came (by 1) or goes (by -1).
func (l *loop) noteRoaming(s *slot, name string, by int32) {
	var space [maxName]byte
	foreign := false
	for i := range l.hub.homes {
		user, ok := l.hub.homes[i].user(space[:0], name)
		if ok && string(user) == string(l.names.get(s.user)) {
			return // whatever matches it leads to this loop
		}
		foreign = foreign || ok
	}
	if !api.HasWildcard(name) {
		l.roaming.literals[l.hub.roamingSlot(name)].Add(by)
		if foreign {
			l.hub.roamers.foreign.Add(int64(by))
		}
		return
	}
	l.hub.roamers.patterns.Add(int64(by))
	if root, _, _ := strings.Cut(name, "."); !api.HasWildcard(root) {
		l.roaming.roots[l.hub.roamingSlot(root)].Add(by)
		return
	}
	l.roaming.anywhere.Add(by)
}

// route finds the loops that may have takers for a subject. The slice is the
// hub's, until the next call.
func (h *Hub) route(subject string) []*loop {
	h.targets = h.targets[:0]
	var space [maxName]byte
	homed := false
	for i := range h.homes {
		if user, ok := h.homes[i].user(space[:0], subject); ok {
			homed = true
			h.target(h.loops[h.hash(user)%uint64(len(h.loops))])
		}
	}
	if !homed || h.roamers.patterns.Load() > 0 || h.roamers.foreign.Load() > 0 {
		h.roam(subject)
	}
	return h.targets
}

// roam finds those whose sessions may want it though it does not lead to them
// by name.
func (h *Hub) roam(subject string) {
	patterns := h.roamers.patterns.Load() > 0
	var root uint64
	if patterns {
		first, _, _ := strings.Cut(subject, ".")
		root = h.roamingSlot(first)
	}
	literal := h.roamingSlot(subject)
	for i, l := range h.loops {
		r := &l.roaming
		if r.literals[literal].Load() > 0 || patterns && (r.roots[root].Load() > 0 || r.anywhere.Load() > 0) {
			h.shared[i] = true
			h.target(l)
		}
	}
}

// target adds a loop, once.
func (h *Hub) target(l *loop) {
	for _, t := range h.targets {
		if t == l {
			return
		}
	}
	h.targets = append(h.targets, l)
}
