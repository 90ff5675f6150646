package api

import "strings"

// Shape is a form of pattern: how many tokens it has, and which are wildcards.
// Of all patterns of one shape only one can match a subject, and Apply makes
// it: however many patterns there are, a look-up for each shape finds those
// that match. Shapes can be compared.
type Shape struct {
	tokens int       // before the > where there is one
	stars  [2]uint64 // bit i: token i is *; a subject has at most 128 tokens
	tail   bool      // ends with >
}

// ShapeOf returns the shape of a valid pattern.
func ShapeOf(pattern string) Shape {
	var sh Shape
	for token := range strings.SplitSeq(pattern, ".") {
		switch token {
		case ">":
			sh.tail = true
			return sh
		case "*":
			sh.stars[sh.tokens/64] |= 1 << (sh.tokens % 64)
		}
		sh.tokens++
	}
	return sh
}

// Fits reports whether a pattern of this shape can match a subject of so many
// tokens.
func (sh Shape) Fits(tokens int) bool {
	return tokens == sh.tokens && !sh.tail || tokens > sh.tokens && sh.tail
}

// Apply appends the pattern of this shape that matches subject, whose number
// of tokens fits.
func (sh Shape) Apply(dst []byte, subject string) []byte {
	for i := range sh.tokens {
		token, rest, _ := strings.Cut(subject, ".")
		if i > 0 {
			dst = append(dst, '.')
		}
		if sh.stars[i/64]&(1<<(i%64)) != 0 {
			dst = append(dst, '*')
		} else {
			dst = append(dst, token...)
		}
		subject = rest
	}
	if sh.tail {
		if sh.tokens > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, '>')
	}
	return dst
}

// Shapes counts the shapes of patterns that somebody holds.
type Shapes []shapeCount

type shapeCount struct {
	Shape
	n int
}

// Count notes a pattern that came (by 1) or went (by -1).
func (s *Shapes) Count(pattern string, by int) {
	sh := ShapeOf(pattern)
	for i := range *s {
		held := &(*s)[i]
		if held.Shape == sh {
			if held.n += by; held.n == 0 {
				*s = append((*s)[:i], (*s)[i+1:]...)
			}
			return
		}
	}
	*s = append(*s, shapeCount{sh, by})
}
