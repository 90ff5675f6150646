package session

import "strings"

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
		if !sh.Fits(tokens) {
			continue
		}
		x.scratch = sh.Apply(x.scratch[:0], subject)
		if i := x.find(x.scratch); i != 0 {
			dst = append(dst, i)
		}
	}
	return dst
}
