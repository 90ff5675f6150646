package conformance

import (
	"fmt"
	"strings"
)

// closeCases are group 7.
func closeCases() []testCase {
	const hello = "Hello World!"
	shut := closing(1000, "")
	// The client begins to close; codes are what the server may answer.
	begun := func(id string, clean bool, codes []int, frames ...frame) testCase {
		return testCase{
			id: id, end: ending{byMe: true, clean: clean, codes: codes},
			run: func(c *client) { c.send(frames...) },
		}
	}
	normal := []int{1000}
	echoed := begun("7.1.1", true, normal, text(hello), shut)
	echoed.want = []event{{"text", hello}}
	late := begun("7.1.6", true, normal, text(textOf(256<<10)), text(hello), shut, ping(""))
	late.informational = true
	all := []testCase{
		echoed,
		begun("7.1.2", true, normal, shut, shut),
		begun("7.1.3", true, normal, shut, ping("")),
		begun("7.1.4", true, normal, shut, text(hello)),
		begun("7.1.5", true, normal, part(opText, false, "fragment1"), shut, part(opContinuation, true, "fragment2")),
		late,
		begun("7.3.1", true, normal, frame{op: opClose, fin: true}),
		begun("7.3.2", false, []int{1002}, frame{op: opClose, fin: true, payload: "a"}),
		begun("7.3.3", true, normal, shut),
		begun("7.3.4", true, normal, closing(1000, "Hello World!")),
		begun("7.3.5", true, normal, closing(1000, strings.Repeat("*", 123))),
		begun("7.3.6", false, []int{1002}, closing(1000, strings.Repeat("*", 124))),
		begun("7.5.1", false, []int{1002, 1007}, closing(1000, kosme+"\xed\xa0\x80edited")),
	}
	for i, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		all = append(all, begun(fmt.Sprintf("7.7.%d", i+1), true, []int{1000, code}, closing(uint16(code), "")))
	}
	for i, code := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		all = append(all, begun(fmt.Sprintf("7.9.%d", i+1), false, []int{1002}, closing(uint16(code), "")))
	}
	for i, code := range []int{5000, 65535} {
		undefined := begun(fmt.Sprintf("7.13.%d", i+1), false, []int{1000, code, 1002}, closing(uint16(code), ""))
		undefined.informational = true
		all = append(all, undefined)
	}
	return all
}
