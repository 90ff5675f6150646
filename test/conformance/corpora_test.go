package conformance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// corpus is data of one kind to cut messages from, of which the last goes on at
// the beginning.
type corpus struct {
	op   byte
	data string
}

func (c *corpus) message(i, n int) string {
	from := i * n % len(c.data)
	var b strings.Builder
	for b.Len() < n {
		end := min(len(c.data), from+n-b.Len())
		b.WriteString(c.data[from:end])
		from = end % len(c.data)
	}
	return b.String()
}

const corpusSize = 600 << 10

// corpora are of the kinds that the original has: prose, a picture, a document
// that is compressed already, JSON, HTML.
func corpora() []corpus {
	r := rand.New(rand.NewPCG(12, 13))
	var prose, document, json, html bytes.Buffer
	picture := make([]byte, corpusSize)
	for i := range picture {
		x, y := i%512, i/512
		picture[i] = byte(x/4 + y/8 + r.IntN(4))
	}
	for prose.Len() < corpusSize {
		fmt.Fprintf(&prose, "%s %s %s,\r\n", word(r), word(r), word(r))
	}
	for document.Len() < corpusSize {
		fmt.Fprintf(&document, "%d 0 obj <</Length 1024/Filter/FlateDecode>> stream\n", r.IntN(10_000))
		for range 256 {
			document.Write([]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		}
	}
	for json.Len() < corpusSize {
		fmt.Fprintf(&json, `{"id":%d,"name":%q,"tags":[%q,%q],"price":%.2f,"open":%v},`+"\n",
			r.IntN(1_000_000), word(r), word(r), word(r), r.Float64()*1000, r.IntN(2) == 0)
	}
	for html.Len() < corpusSize {
		fmt.Fprintf(&html, "<li class=%q><a href=\"/%s/%d\">%s %s</a></li>\n", word(r), word(r), r.IntN(1000), word(r), word(r))
	}
	return []corpus{
		{opBinary, prose.String()}, {opBinary, string(picture)}, {opBinary, document.String()},
		{opText, json.String()}, {opText, html.String()},
	}
}

// word is one of a few thousand, short ones more often.
func word(r *rand.Rand) string {
	w := ""
	for range 1 + r.IntN(3) {
		w += string("bdfgklmnprstvw"[r.IntN(14)]) + string("aeiou"[r.IntN(5)])
	}
	return w
}
