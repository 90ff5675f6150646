package auth

import (
	"strings"

	"pushgate/api"
)

// Grants are what a token lets its session subscribe to beyond the default
// subscriptions: the claim subscribe, below the issuer's ceiling. They do not
// change once made. nil grants nothing.
type Grants struct {
	allow, deny []string
	ceiling     []string // shared by all of the issuer; with bounded it holds, even empty
	bounded     bool
	key         string
}

// Key is the same for equal grants, so that one copy can serve many sessions.
func (g *Grants) Key() string { return g.key }

// Allow reports whether every subject of the pattern is granted and none is
// denied.
func (g *Grants) Allow(pattern string) bool {
	return g != nil && !g.Deny(pattern) && covered(g.allow, pattern) && (!g.bounded || covered(g.ceiling, pattern))
}

// Deny reports whether some subject of the pattern is denied. A subscription
// that meets a denial is forbidden as a whole.
func (g *Grants) Deny(pattern string) bool {
	if g == nil {
		return false
	}
	for _, d := range g.deny {
		if api.Overlap(d, pattern) {
			return true
		}
	}
	return false
}

// MaySubscribe reports whether the client may subscribe to the pattern: it is
// part of a default subscription or granted, and nothing of it is denied.
func (id *Identity) MaySubscribe(pattern string) bool {
	return covered(id.Subjects, pattern) && !id.Grants.Deny(pattern) || id.Grants.Allow(pattern)
}

// covered reports whether one of the patterns covers p. That several together
// might is not looked into: it would grant nothing that an issuer meant.
func covered(by []string, p string) bool {
	for _, b := range by {
		if api.Covers(b, p) {
			return true
		}
	}
	return false
}

const (
	badGrants = "The token's claim subscribe is not a list of subject patterns."
	denial    = "!"
)

// readGrants reads the raw claim subscribe: a list of patterns, of which those
// with ! in front deny.
func (i *issuer) readGrants(raw []byte) (*Grants, *Error) {
	if raw == nil {
		return nil, nil
	}
	if raw[0] != '[' {
		return nil, &Error{Reason: ReasonBadClaim, Message: badGrants}
	}
	g := &Grants{ceiling: i.ceiling, bounded: i.bounded}
	good := true
	elements(raw, func(value []byte) bool {
		var s string
		if s, good = text(value); !good {
			return false
		}
		pattern, denies := strings.CutPrefix(s, denial)
		if good = api.ValidPattern(pattern); !good {
			return false
		}
		if denies {
			g.deny = append(g.deny, pattern)
		} else {
			g.allow = append(g.allow, pattern)
		}
		return true
	})
	if !good {
		return nil, &Error{Reason: ReasonBadClaim, Message: badGrants}
	}
	if len(g.allow)+len(g.deny) == 0 {
		return nil, nil
	}
	// No pattern holds a space.
	g.key = i.name + " " + strings.Join(g.allow, " ") + " " + denial + strings.Join(g.deny, " ")
	return g, nil
}
