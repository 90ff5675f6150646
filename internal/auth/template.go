package auth

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"pushgate/api"
)

const (
	// maxPerTemplate is how many subscriptions a claim list may make of one
	// template.
	maxPerTemplate = 64
	// issuerPlace is where a template has its issuer's name: no claim, but a
	// word of the operator's.
	issuerPlace = "{issuer}"
)

// template is a compiled default subscription.
type template struct {
	text   string
	parts  []part // empty for a template without placeholders
	simple bool   // no claim but sub is needed
	reach  string // a pattern that covers whatever it can become
}

// part is a literal, or a claim where path is set.
type part struct {
	literal string
	path    []string
	b64     bool
}

// CheckTemplate reports what is wrong with a default subscription: nil for
// "broadcast", "user.{sub}", "team.{org.id}.>" or "mail.{email:b64}", and, where
// the issuer has a name, "{issuer}.user.{sub}". The error is one sentence that
// names the template.
func CheckTemplate(s, issuer string) error {
	_, err := compile(s, issuer)
	return err
}

// Expand puts the issuer's name where the template or pattern says {issuer}.
func Expand(template, issuer string) string {
	return strings.ReplaceAll(template, issuerPlace, issuer)
}

func compile(s, issuer string) (template, error) {
	if issuer == "" && strings.Contains(s, issuerPlace) {
		return template{}, fmt.Errorf("subscription %q has {issuer}, but its issuer has no name: that takes auth.issuers", s)
	}
	s = Expand(s, issuer)
	t := template{text: s, simple: true}
	var shape strings.Builder // the template with a plain token for each claim
	bound := true             // a dot, or the start, lies behind the last claim
	for rest := s; rest != ""; {
		literal, behind, found := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return t, fmt.Errorf("subscription %q has a } without a {", s)
		}
		shape.WriteString(literal)
		bound = bound || strings.Contains(literal, ".")
		if literal != "" {
			t.parts = append(t.parts, part{literal: literal})
		}
		if !found {
			break
		}
		inner, next, closed := strings.Cut(behind, "}")
		if !closed {
			return t, fmt.Errorf("subscription %q has a { without a }", s)
		}
		if !bound {
			// Of {org}-{sub}, "a-b" with "c" and "a" with "b-c" would be one
			// subject: the events of another organisation.
			return t, fmt.Errorf("subscription %q has two claims in one token: put a dot between them", s)
		}
		p, err := compileClaim(s, inner)
		if err != nil {
			return t, err
		}
		t.parts = append(t.parts, p)
		t.simple = t.simple && len(p.path) == 1 && p.path[0] == "sub"
		shape.WriteByte('x')
		bound, rest = false, next
	}
	t.reach = reach(s)
	if !api.ValidPattern(shape.String()) {
		return t, fmt.Errorf("subscription %q is not a subject: tokens joined by dots, where * is a whole token and > the last one", s)
	}
	if !strings.Contains(s, "{") {
		t.parts = nil
	}
	return t, nil
}

// reach is the template with * for each token that a claim is part of.
func reach(template string) string {
	var b strings.Builder
	inside, claimed := false, false
	token := 0 // where in b the token began
	for _, c := range []byte(template) {
		switch {
		case c == '{':
			inside, claimed = true, true
		case c == '}':
			inside = false
		case inside:
		case c == '.':
			if claimed {
				kept := b.String()[:token]
				b.Reset()
				b.WriteString(kept + "*")
			}
			b.WriteByte(c)
			token, claimed = b.Len(), false
		default:
			b.WriteByte(c)
		}
	}
	if claimed {
		return b.String()[:token] + "*"
	}
	return b.String()
}

func compileClaim(s, inner string) (part, error) {
	name, encoding, encoded := strings.Cut(inner, ":")
	if encoded && encoding != "b64" {
		return part{}, fmt.Errorf("subscription %q asks for the encoding %q: only b64 is known", s, encoding)
	}
	path := strings.Split(name, ".")
	for _, p := range path {
		if !fits(p) || strings.Contains(p, "{") {
			return part{}, fmt.Errorf("subscription %q has the placeholder {%s}, which does not name a claim", s, inner)
		}
	}
	return part{path: path, b64: encoded}, nil
}

// fits reports whether a claim can be one token of a subject. U+FFFD is what
// broken text becomes on its way: two users could meet in it.
func fits(s string) bool {
	return api.ValidToken(s) && !strings.ContainsRune(s, utf8.RuneError)
}

// fill appends the subscriptions that the template makes for this user. payload
// is the token's valid JSON object.
func (t *template) fill(subjects []string, limit int, user string, payload []byte) ([]string, *Error) {
	if t.parts == nil {
		return join(subjects, limit, t.text)
	}
	made := []string{""}
	for i := range t.parts {
		p := &t.parts[i]
		if p.path == nil {
			for j := range made {
				made[j] += p.literal
			}
			continue
		}
		if t.simple {
			for j := range made {
				made[j] += p.encode(user)
			}
			continue
		}
		values, err := p.values(payload)
		if err != nil {
			return subjects, err
		}
		if len(made)*len(values) > maxPerTemplate {
			return subjects, badClaim(p, fmt.Sprintf("has too many values: a subscription takes at most %d", maxPerTemplate))
		}
		made = product(made, values)
	}
	var err *Error
	for _, s := range made {
		if subjects, err = join(subjects, limit, s); err != nil {
			return subjects, err
		}
	}
	return subjects, nil
}

func product(prefixes, values []string) []string {
	all := make([]string, 0, len(prefixes)*len(values))
	for _, p := range prefixes {
		for _, v := range values {
			all = append(all, p+v)
		}
	}
	return all
}

// join appends a subscription that is not there yet.
func join(subjects []string, limit int, s string) ([]string, *Error) {
	switch {
	case slices.Contains(subjects, s):
		return subjects, nil
	case !api.ValidPattern(s):
		return subjects, &Error{Reason: ReasonBadClaim, Message: "The token's claims make a subject that is too long."}
	case len(subjects) == limit:
		return subjects, &Error{Reason: ReasonBadClaim, Message: fmt.Sprintf("The token's claims make more than %d subscriptions.", limit)}
	}
	return append(subjects, s), nil
}

func (p *part) encode(value string) string {
	if p.b64 {
		return base64.RawURLEncoding.EncodeToString([]byte(value))
	}
	return value
}

// values are the claim's values, checked and encoded; a list gives one each.
func (p *part) values(payload []byte) ([]string, *Error) {
	value := payload
	for _, name := range p.path {
		var found []byte
		err := visit(value, func(key, v []byte) {
			if string(key) == name {
				found = v
			}
		})
		switch {
		case err == errTwice:
			return nil, badClaim(p, "lies in an object that has a key twice")
		case found == nil || string(found) == "null":
			return nil, badClaim(p, "is missing, and a subscription needs it")
		}
		value = found
	}
	if value[0] != '[' {
		one, err := p.value(value)
		return []string{one}, err
	}
	var all []string
	var err *Error
	elements(value, func(v []byte) bool {
		var one string
		if one, err = p.value(v); err == nil && len(all) == maxPerTemplate {
			err = badClaim(p, fmt.Sprintf("has too many values: a subscription takes at most %d", maxPerTemplate))
		}
		all = append(all, one)
		return err == nil
	})
	return all, err
}

func (p *part) value(raw []byte) (string, *Error) {
	s, ok := scalar(raw)
	switch {
	case !ok:
		return "", badClaim(p, "is neither a string nor an integer nor a list of these")
	case p.b64 && (s == "" || len(s) > api.MaxToken || strings.ContainsRune(s, utf8.RuneError)):
		return "", badClaim(p, fmt.Sprintf("must be text of 1 to %d bytes", api.MaxToken))
	case !p.b64 && !fits(s):
		return "", badClaim(p, "cannot be part of a subject: "+tokenRule)
	}
	return p.encode(s), nil
}

var tokenRule = fmt.Sprintf("it must be one token of 1 to %d bytes without dot, wildcard, space or control character", api.MaxToken)

// badClaim names the claim, which the operator's template does too, and never
// its value.
func badClaim(p *part, what string) *Error {
	return &Error{Reason: ReasonBadClaim, Message: fmt.Sprintf("The token's claim %s %s.", strings.Join(p.path, "."), what)}
}
