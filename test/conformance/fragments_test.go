package conformance

import "fmt"

// fragmentCases are group 5.
func fragmentCases() []testCase {
	const one, two, three, four = "fragment1", "fragment2", "fragment3", "fragment4"
	halves := []frame{part(opText, false, one), part(opContinuation, true, two)}
	pinged := []frame{halves[0], ping("ping"), halves[1]}
	// A continuation of nothing, then a message.
	orphan := func(fin bool) []frame {
		return []frame{part(opContinuation, fin, "non-continuation"), text("Hello, world!")}
	}
	whole, pong := []event{{"text", one + two}}, event{"pong", "ping"}

	all := []testCase{
		alone("5.1", part(opPing, false, one), part(opContinuation, true, two)),
		alone("5.2", part(opPong, false, one), part(opContinuation, true, two)),
	}
	n := 2
	add := func(want []event, end ending, frames []frame) {
		for _, write := range []writing{atOnce, byFrame, byOctets} {
			n++
			all = append(all, testCase{
				id: fmt.Sprintf("5.%d", n), want: want, end: end,
				run: func(c *client) { write(c, frames...) },
			})
		}
	}
	add(whole, fine, halves)
	add(append([]event{pong}, whole...), fine, pinged)
	add(nil, failedBy(1002), orphan(true))
	add(nil, failedBy(1002), orphan(false))

	again := func(fin bool) []frame {
		f := []frame{part(opContinuation, fin, one), part(opText, false, two), part(opContinuation, true, three)}
		return append(f, f...)
	}
	return append(all,
		testCase{id: "5.15", want: whole, loose: []event{}, end: failedBy(1002), run: func(c *client) {
			c.send(halves[0], halves[1], part(opContinuation, false, three), text(four))
		}},
		alone("5.16", again(false)...),
		alone("5.17", again(true)...),
		alone("5.18", part(opText, false, one), part(opText, true, two)),
		interleaved("5.19", atOnce),
		interleaved("5.20", byFrame),
	)
}

// interleaved is a message in five fragments with two pings in between, the
// first of which must be answered before the message goes on.
func interleaved(id string, write writing) testCase {
	return testCase{
		id: id, end: fine,
		want: []event{{"pong", "pongme 1!"}, {"pong", "pongme 2!"}, {"text", "fragment1fragment2fragment3fragment4fragment5"}},
		run: func(c *client) {
			write(c, part(opText, false, "fragment1"), part(opContinuation, false, "fragment2"), ping("pongme 1!"))
			c.await(patience, func() bool { return len(c.events) > 0 || c.closed })
			write(c, part(opContinuation, false, "fragment3"), part(opContinuation, false, "fragment4"),
				ping("pongme 2!"), part(opContinuation, true, "fragment5"))
		},
	}
}
