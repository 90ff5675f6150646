package session

import "strings"

// countShape notes a pattern that came (by 1) or went (by -1).
func (x *index) countShape(pattern string, by int) {
	sh := shapeOf(pattern)
	for i := range x.shapes {
		s := &x.shapes[i]
		if s.tokens == sh.tokens && s.stars == sh.stars && s.tail == sh.tail {
			if s.n += by; s.n == 0 {
				x.shapes = append(x.shapes[:i], x.shapes[i+1:]...)
			}
			return
		}
	}
	sh.n = by
	x.shapes = append(x.shapes, sh)
}

func shapeOf(pattern string) shape {
	var sh shape
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

// match appends the records that a literal subject meets, its own and those of
// patterns.
func (x *index) match(dst []uint32, subject string) []uint32 {
	x.scratch = append(x.scratch[:0], subject...)
	if i := x.find(x.scratch); i != 0 {
		dst = append(dst, i)
	}
	if len(x.shapes) == 0 {
		return dst
	}
	tokens := strings.Count(subject, ".") + 1
	for _, sh := range x.shapes {
		if sh.tail && tokens <= sh.tokens || !sh.tail && tokens != sh.tokens {
			continue
		}
		x.scratch = sh.apply(x.scratch[:0], subject)
		if i := x.find(x.scratch); i != 0 {
			dst = append(dst, i)
		}
	}
	return dst
}

// apply appends subject with the shape's wildcards put in.
func (sh shape) apply(dst []byte, subject string) []byte {
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
