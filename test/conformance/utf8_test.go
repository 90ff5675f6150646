package conformance

import (
	"fmt"
	"unicode/utf8"
)

// kosme is the Greek word that many of these cases are made of; its second
// letter has three bytes, the others two.
const kosme = "\u03ba\u1f79\u03c3\u03bc\u03b5"

// textCases are group 6.
func textCases() []testCase {
	echoed := func(id, payload string, frames ...frame) testCase {
		return testCase{
			id: id, want: []event{{"text", payload}}, end: fine,
			run: func(c *client) { c.send(frames...) },
		}
	}
	const mixed = "Hello-µ@ßöäüàá-UTF-8!!"
	const cut = len("Hello-µ@ßöä") // at a character's end
	const surrogate = kosme + "\xed\xa0\x80" + "edited"
	all := []testCase{
		echoed("6.1.1", "", text("")),
		echoed("6.1.2", "", part(opText, false, ""), part(opContinuation, false, ""), part(opContinuation, true, "")),
		echoed("6.1.3", "middle frame payload", part(opText, false, ""),
			part(opContinuation, false, "middle frame payload"), part(opContinuation, true, "")),
		echoed("6.2.1", mixed, text(mixed)),
		echoed("6.2.2", mixed, part(opText, false, mixed[:cut]), part(opContinuation, true, mixed[cut:])),
		echoed("6.2.3", mixed, fragments(opText, mixed, 1)...),
		echoed("6.2.4", kosme, fragments(opText, kosme, 1)...),
		{id: "6.3.1", end: failedBy(1007), run: func(c *client) { c.send(text(surrogate)) }},
		{id: "6.3.2", end: failedBy(1007), run: func(c *client) { c.send(fragments(opText, surrogate, 1)...) }},
	}
	return append(append(all, failFastCases()...), sequenceCases()...)
}

// failFastCases: text that cannot become good any more ends the connection with
// the byte that spoils it, wherever in a message that is.
func failFastCases() (all []testCase) {
	const beyond = "\xf4\x90\x80\x80" // what 0x110000 would be: its second byte is one too many
	const message = kosme + beyond + "edited"
	const bad = len(kosme) + 1 // where it is
	for i, cuts := range [][2]int{{bad - 1, bad + 3}, {bad, bad + 1}} {
		pieces := []string{message[:cuts[0]], message[cuts[0]:cuts[1]], message[cuts[1]:]}
		all = append(all, failFast(fmt.Sprintf("6.4.%d", i+1), func(c *client, n int) {
			c.send(part([]byte{opText, opContinuation, opContinuation}[n], n == 2, pieces[n]))
		}))
	}
	for i, cuts := range [][2]int{{bad - 1, bad + 3}, {bad, bad + 1}} {
		var wire []byte
		all = append(all, failFast(fmt.Sprintf("6.4.%d", i+3), func(c *client, n int) {
			if n == 0 {
				wire = c.bytesOf([]frame{text(message)})
			}
			head := len(wire) - len(message)
			bounds := []int{0, head + cuts[0], head + cuts[1], len(wire)}
			c.put(wire[bounds[n]:bounds[n+1]])
		}))
	}
	return all
}

// failFast sends the good piece, which must be taken, and then the bad one,
// behind which the end must come without anything more.
func failFast(id string, send func(c *client, piece int)) testCase {
	good := event{"timeout", "A"}
	return testCase{
		id: id, want: []event{good}, loose: []event{good, {"timeout", "B"}}, end: failedBy(1007),
		run: func(c *client) {
			send(c, 0)
			c.quiet("A")
			send(c, 1)
			if !c.await(patience, func() bool { return c.closed }) && !c.gone {
				c.events = append(c.events, event{"timeout", "B"})
				send(c, 2)
			}
		},
	}
}

// sequenceCases are 6.5 to 6.23: the sequences of Markus Kuhn's stress test for
// UTF-8 decoders. What is good is told by this language's library.
func sequenceCases() (all []testCase) {
	for i, group := range sequences() {
		for j, payload := range group {
			tc := testCase{
				id:  fmt.Sprintf("6.%d.%d", i+5, j+1),
				end: failedBy(1007),
				run: func(c *client) { c.send(text(payload)) },
			}
			if utf8.ValidString(payload) {
				tc.want, tc.end = []event{{"text", payload}}, fine
			}
			all = append(all, tc)
		}
	}
	return all
}

func sequences() [][]string {
	incomplete := []string{
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
	}
	var prefixes []string
	for i := range len(kosme) {
		prefixes = append(prefixes, kosme[:i+1])
	}
	all := ""
	for _, s := range incomplete {
		all += s
	}
	return [][]string{
		{"hello$world", "hello¢world", "hello€world", "hello\U00024b62world", kosme},
		prefixes,
		{"\x00", "\u0080", "\u0800", "\U00010000"},
		{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"},
		{"\x7f", "\u07ff", "\uffff", "\U0010ffff"},
		{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},
		{"\ud7ff", "\ue000", "\ufffd", "\U0010ffff", "\xf4\x90\x80\x80"},
		{
			"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80",
			"\x80\xbf\x80\xbf\x80\xbf", octets(0x80, 0xbe, ""),
		},
		{octets(0xc0, 0xde, " "), octets(0xe0, 0xee, " "), octets(0xf0, 0xf6, " "), octets(0xf8, 0xfa, " "), octets(0xfc, 0xfc, " ")},
		incomplete,
		{all},
		{"\xfe", "\xff", "\xfe\xfe\xff\xff"},
		{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"},
		{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"},
		{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"},
		{
			"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf",
			"\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf",
		},
		pairs([]string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf"}, []string{"\xed\xb0\x80", "\xed\xbf\xbf"}),
		noncharacters(),
		{"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"},
	}
}

// octets are the bytes from first to last, each with something behind it.
func octets(first, last int, behind string) string {
	s := ""
	for b := first; b <= last; b++ {
		s += string([]byte{byte(b)}) + behind
	}
	return s
}

func pairs(first, second []string) (all []string) {
	for _, a := range first {
		for _, b := range second {
			all = append(all, a+b)
		}
	}
	return all
}

// noncharacters are the last two code points of each plane, which are no
// characters, but good UTF-8 (RFC 3629).
func noncharacters() []string {
	all := []string{"\ufffe", "\uffff"}
	for r := rune(0x1fffe); r <= 0x10ffff; r += 0x10000 {
		all = append(all, string(r), string(r+1))
	}
	return all
}
