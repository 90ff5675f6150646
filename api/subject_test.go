package api

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestValidNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		s                       string
		token, subject, pattern bool
	}{
		{"alice", true, true, true},
		{"A-Z_0$9", true, true, true},
		{"a@b,c;d:e/f", true, true, true},
		{"żółć", true, true, true},
		{"😀", true, true, true},
		{"a\u200bb", true, true, true}, // zero width, but neither space nor control
		{"{sub}", true, true, true},

		{"", false, false, false},
		{"a.b", false, true, true},
		{"a.b.c.d.e", false, true, true},
		{".", false, false, false},
		{".a", false, false, false},
		{"a.", false, false, false},
		{"a..b", false, false, false},

		{"*", false, false, true},
		{">", false, false, true},
		{"*.*", false, false, true},
		{"a.*.b", false, false, true},
		{"*.>", false, false, true},
		{"a.>", false, false, true},
		{">.a", false, false, false},
		{"a.>.b", false, false, false},
		{">.>", false, false, false},
		{"a.>.", false, false, false},
		{"**", false, false, false},
		{">>", false, false, false},
		{"*>", false, false, false},
		{"a*", false, false, false},
		{"*a", false, false, false},
		{"a>", false, false, false},
		{"a.b*", false, false, false},
		{"a.>b", false, false, false},

		{" ", false, false, false},
		{"a b", false, false, false},
		{" a", false, false, false},
		{"a ", false, false, false},
		{"a. .b", false, false, false},
		{"a\tb", false, false, false},
		{"a\nb", false, false, false},
		{"a\r\nb", false, false, false},
		{"a\vb", false, false, false},
		{"\x00", false, false, false},
		{"a\x00b", false, false, false},
		{"a.b\x1f", false, false, false},
		{"a\x7fb", false, false, false},
		{"a\u0080b", false, false, false}, // C1 control
		{"a\u0085b", false, false, false}, // next line
		{"a\u00a0b", false, false, false}, // no-break space
		{"a\u2003b", false, false, false},
		{"a\u2028b", false, false, false},
		{"a\u2029b", false, false, false},
		{"a\u3000b", false, false, false},
		{"\ufeffa", false, false, false}, // BOM, in front and inside
		{"a\ufeff", false, false, false},
		{"\ufffd", true, true, true}, // the character itself is valid UTF-8

		{"\xff", false, false, false},
		{"a\xc3", false, false, false},
		{"a\xc0\xaeb", false, false, false},       // a dot, overlong
		{"a\xed\xa0\x80", false, false, false},    // a surrogate
		{"\xf4\x90\x80\x80", false, false, false}, // beyond Unicode

		{long(MaxToken), true, true, true},
		{long(MaxToken + 1), false, true, true},
		{strings.Repeat("é", MaxToken/2), true, true, true},
		{strings.Repeat("é", MaxToken/2) + "x", false, true, true}, // bytes count, not characters
		{long(MaxSubject), false, true, true},
		{long(MaxSubject + 1), false, false, false},
		{long(MaxSubject-2) + ".>", false, false, true},
		{long(MaxSubject-1) + ".>", false, false, false},
		{strings.Repeat("a.", MaxSubject/2) + "a", false, true, true},
		{strings.Repeat("a.", MaxSubject/2+1) + "a", false, false, false},
	} {
		if got := ValidToken(tc.s); got != tc.token {
			t.Errorf("ValidToken(%q) is %v", tc.s, got)
		}
		if got := ValidSubject(tc.s); got != tc.subject {
			t.Errorf("ValidSubject(%q) is %v", tc.s, got)
		}
		if got := ValidPattern(tc.s); got != tc.pattern {
			t.Errorf("ValidPattern(%q) is %v", tc.s, got)
		}
	}
}

// TestEveryRune holds each character against the rule as NATS and Unicode say
// it, alone and in the middle of a token.
func TestEveryRune(t *testing.T) {
	forbidden := func(r rune) bool {
		switch {
		case r <= ' ', r >= 0x7f && r <= 0xa0, r == '.', r == '*', r == '>':
			return true
		case r == 0x1680, r >= 0x2000 && r <= 0x200a, r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x3000:
			return true
		}
		return r == 0xfeff
	}
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		if ValidToken(string(r)) == forbidden(r) || ValidToken("a"+string(r)+"b") == forbidden(r) {
			t.Errorf("%U: taken is %v", r, !forbidden(r))
		}
	}
}

// matches is NATS's rule on tokens, as anyone would write it first.
func matches(pattern, subject []string) bool {
	switch {
	case len(pattern) == 0 || len(subject) == 0:
		return len(pattern) == len(subject)
	case pattern[0] == ">":
		return true
	case pattern[0] == "*" || pattern[0] == subject[0]:
		return matches(pattern[1:], subject[1:])
	}
	return false
}

func TestMatchAgainstReference(t *testing.T) {
	token := rapid.SampledFrom([]string{"a", "b", "aa", "A", "é"})
	hits, misses := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		subject := rapid.SliceOfN(token, 1, 5).Draw(t, "subject")
		pattern := rapid.SliceOfN(rapid.OneOf(token, rapid.Just("*")), 1, 5).Draw(t, "pattern")
		if rapid.Bool().Draw(t, "near") {
			// Made from the subject, so that many match.
			pattern = append([]string(nil), subject...)
			for i := range pattern {
				if rapid.Bool().Draw(t, "star") {
					pattern[i] = "*"
				}
			}
		}
		if rapid.Bool().Draw(t, "tail") {
			pattern[rapid.IntRange(0, len(pattern)-1).Draw(t, "at")] = ">"
			for i, p := range pattern {
				if p == ">" {
					pattern = pattern[:i+1]
					break
				}
			}
		}
		p, s := strings.Join(pattern, "."), strings.Join(subject, ".")
		if !ValidPattern(p) || !ValidSubject(s) {
			t.Fatalf("%q or %q is not valid", p, s)
		}
		want := matches(pattern, subject)
		if got := Match(p, s); got != want {
			t.Fatalf("Match(%q, %q) is %v", p, s, got)
		}
		if wild := strings.Contains(p, "*") || strings.Contains(p, ">"); HasWildcard(p) != wild {
			t.Fatalf("HasWildcard(%q) is %v", p, !wild)
		}
		if want {
			hits++
		} else {
			misses++
		}
	})
	// A generator that never matches would prove nothing.
	if hits == 0 || misses == 0 {
		t.Errorf("%d matches and %d others were tried", hits, misses)
	}
}

// patterns draws patterns over few tokens, so that many of them meet.
func patterns() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*"}), 1, 4).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "tail") {
			tokens[len(tokens)-1] = ">"
		}
		return strings.Join(tokens, ".")
	})
}

// everySubject are all subjects of up to five tokens over a and b, and c, which
// no pattern names: enough to tell patterns of four tokens apart.
func everySubject() []string {
	level, all := []string{""}, []string(nil)
	for range 5 {
		var next []string
		for _, s := range level {
			for _, token := range []string{"a", "b", "c"} {
				next = append(next, strings.TrimPrefix(s+"."+token, "."))
			}
		}
		all = append(all, next...)
		level = next
	}
	return all
}

// TestCoversAndOverlapByEnumeration holds both against their own definition.
func TestCoversAndOverlapByEnumeration(t *testing.T) {
	subjects := everySubject()
	var covered, apart int
	rapid.Check(t, func(t *rapid.T) {
		p, q := patterns().Draw(t, "p"), patterns().Draw(t, "q")
		covers, overlap := true, false
		for _, s := range subjects {
			inP, inQ := Match(p, s), Match(q, s)
			covers = covers && (inP || !inQ)
			overlap = overlap || inP && inQ
		}
		if Covers(p, q) != covers {
			t.Fatalf("Covers(%q, %q) is %v", p, q, !covers)
		}
		if Overlap(p, q) != overlap || Overlap(q, p) != overlap {
			t.Fatalf("Overlap(%q, %q) is %v", p, q, !overlap)
		}
		if covers {
			covered++
		}
		if !overlap {
			apart++
		}
	})
	if covered == 0 || apart == 0 {
		t.Errorf("%d pairs covered, %d apart: the generator proves nothing", covered, apart)
	}
}

// TestShapes: a pattern matches a subject just when its shape makes the pattern
// of the subject.
func TestShapes(t *testing.T) {
	subjects := everySubject()
	rapid.Check(t, func(t *rapid.T) {
		p, s := patterns().Draw(t, "pattern"), rapid.SampledFrom(subjects).Draw(t, "subject")
		sh := ShapeOf(p)
		made := sh.Fits(strings.Count(s, ".")+1) && string(sh.Apply(nil, s)) == p
		if made != Match(p, s) {
			t.Fatalf("%s of %s: %v", p, s, made)
		}
	})
	var held Shapes
	for _, p := range []string{"a.*", "b.*", "*.a", "a.*"} {
		held.Count(p, 1)
	}
	if len(held) != 2 {
		t.Errorf("%d shapes of two", len(held))
	}
	for _, p := range []string{"a.*", "*.a", "b.*"} {
		held.Count(p, -1)
	}
	if held.Count("a.*", -1); len(held) != 0 {
		t.Errorf("%d shapes of none", len(held))
	}
}
