package conformance

import (
	"strings"
	"unicode/utf8"
)

// alphabet has characters of one to four bytes, so that fragments of any size
// end inside some of them.
const alphabet = "Hello-µ@ßöäüàá-€uro-\U0001f600-\u03ba\u1f79\u03c3\u03bc\u03b5-"

// textOf is text of n bytes.
func textOf(n int) string {
	b := []byte(strings.Repeat(alphabet, n/len(alphabet)+1)[:n])
	for i := len(b); i > 0 && !utf8.Valid(b[max(0, i-utf8.UTFMax):]); i-- {
		b[i-1] = '.' // the last character does not fit
	}
	return string(b)
}

// binaryOf is n bytes that are no text.
func binaryOf(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(0xfe + i*i>>4)
	}
	return string(b)
}
