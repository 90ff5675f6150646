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
	maxPerTemplate = 64  // subscriptions that a claim list may make of one template
	maxSubjects    = 256 // subscriptions of one identity
)

// template is a compiled default subscription.
type template struct {
	text   string
	parts  []part // empty for a template without placeholders
	simple bool   // no claim but sub is needed
}

// part is a literal, or a claim where path is set.
type part struct {
	literal string
	path    []string
	b64     bool
}

// CheckTemplate reports what is wrong with a default subscription: nil for
// "broadcast", "user.{sub}", "team.{org.id}.>" or "mail.{email:b64}". The error
// is one sentence that names the template.
func CheckTemplate(s string) error {
	_, err := compile(s)
	return err
}

func compile(s string) (template, error) {
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
	if !api.ValidPattern(shape.String()) {
		return t, fmt.Errorf("subscription %q is not a subject: tokens joined by dots, where * is a whole token and > the last one", s)
	}
	if !strings.Contains(s, "{") {
		t.parts = nil
	}
	return t, nil
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
func (t *template) fill(subjects []string, user string, payload []byte) ([]string, *Error) {
	if t.parts == nil {
		return join(subjects, t.text)
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
		if subjects, err = join(subjects, s); err != nil {
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
func join(subjects []string, s string) ([]string, *Error) {
	switch {
	case slices.Contains(subjects, s):
		return subjects, nil
	case !api.ValidPattern(s):
		return subjects, &Error{ReasonBadClaim, "The token's claims make a subject that is too long."}
	case len(subjects) == maxSubjects:
		return subjects, &Error{ReasonBadClaim, fmt.Sprintf("The token's claims make more than %d subscriptions.", maxSubjects)}
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
	return &Error{ReasonBadClaim, fmt.Sprintf("The token's claim %s %s.", strings.Join(p.path, "."), what)}
}
