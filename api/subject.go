package api

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxToken is the longest token, in bytes, that may come from a claim.
	MaxToken = 128
	// MaxSubject is the longest subject or pattern, in bytes and without its
	// root, that a session can hold. Longer ones match nobody.
	MaxSubject = 255
)

// ValidToken reports whether s is one NATS token that may become part of a
// subject: not empty, at most [MaxToken] bytes of valid UTF-8, without dot,
// wildcard, space or control character. The NATS server itself is laxer; what
// it lets through is refused here, because a subject is a permission.
func ValidToken(s string) bool {
	return len(s) <= MaxToken && validToken(s)
}

func validToken(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c <= ' ' || c == 0x7f || c == '.' || c == '*' || c == '>' {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) || unicode.IsSpace(r) || r == '\uFEFF' {
			return false
		}
		i += n
	}
	return true
}

// ValidSubject reports whether s is a literal subject: tokens joined by dots,
// no wildcard, at most [MaxSubject] bytes.
func ValidSubject(s string) bool {
	if len(s) > MaxSubject {
		return false
	}
	for {
		token, rest, more := strings.Cut(s, ".")
		if !validToken(token) {
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
}

// ValidPattern reports whether s is a subject in which tokens may be the
// wildcard * and the last one may be >.
func ValidPattern(s string) bool {
	if len(s) > MaxSubject {
		return false
	}
	for {
		token, rest, more := strings.Cut(s, ".")
		switch {
		case token == "*":
		case token == ">":
			return !more
		case !validToken(token):
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
}

// HasWildcard reports whether the valid pattern p matches more than itself.
func HasWildcard(p string) bool { return strings.ContainsAny(p, "*>") }

// Match reports whether the valid pattern matches the valid literal subject,
// by the rules of NATS: * is exactly one token, > is one or more at the end.
func Match(pattern, subject string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		if p == ">" {
			return true
		}
		s, srest, smore := strings.Cut(subject, ".")
		if p != "*" && p != s {
			return false
		}
		if pmore != smore {
			return false
		}
		if !pmore {
			return true
		}
		pattern, subject = prest, srest
	}
}

// Covers reports whether every subject that matches the valid pattern q matches
// the valid pattern p as well: who may see p may see q.
func Covers(p, q string) bool {
	for {
		pt, prest, pmore := strings.Cut(p, ".")
		if pt == ">" {
			return true // q has a token here, and each of its subjects one or more
		}
		qt, qrest, qmore := strings.Cut(q, ".")
		if qt == ">" || pt != "*" && pt != qt {
			return false
		}
		if pmore != qmore {
			return false
		}
		if !pmore {
			return true
		}
		p, q = prest, qrest
	}
}

// Overlap reports whether some subject matches both of the valid patterns.
func Overlap(p, q string) bool {
	for {
		pt, prest, pmore := strings.Cut(p, ".")
		qt, qrest, qmore := strings.Cut(q, ".")
		switch {
		case pt == ">" || qt == ">":
			return true // both have a token here, and > takes whatever follows
		case pt != "*" && qt != "*" && pt != qt:
			return false
		case pmore != qmore:
			return false
		case !pmore:
			return true
		}
		p, q = prest, qrest
	}
}
