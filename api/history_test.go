package api

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCursors(t *testing.T) {
	for _, p := range []Position{{"e1", 42}, {"k7x2m9qa", 0}, {"a", math.MaxInt64}} {
		if back, ok := ParseCursor(p.Cursor()); !ok || back != p {
			t.Errorf("%+v is %q and read as %+v, %v", p, p.Cursor(), back, ok)
		}
	}
	if (Position{}).Cursor() != "" {
		t.Error("no position has a cursor")
	}
	for _, s := range []string{
		"", ".", "e1", "e1.", ".1", "e1.x", "e1.-1", "e1.+1", "e1.01", "e1.1 ", " e1.1", "E1.1", "e-1.1", "e1.1.1", "é.1",
		"e1.9223372036854775808", "e1.18446744073709551616", "a23456789012345678901234567890123.1", "e1.1\n", "e1.0x1",
	} {
		if p, ok := ParseCursor(s); ok {
			t.Errorf("%q is read as %+v", s, p)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		if p, ok := ParseCursor(s); ok && p.Cursor() != s {
			t.Fatalf("%q is read as %+v", s, p)
		}
	})
}

// FuzzParseCursor: a place has one spelling, which can stand in a URL, in a
// header and in JSON as it is.
func FuzzParseCursor(f *testing.F) {
	f.Add("e1.42")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := ParseCursor(s)
		if !ok {
			return
		}
		if p.Cursor() != s || p.Seq > math.MaxInt64 {
			t.Fatalf("%q is read as %+v", s, p)
		}
		if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.") != "" || len(s) > 64 {
			t.Fatalf("%q is taken", s)
		}
	})
}
