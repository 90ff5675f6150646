package conformance

import (
	"fmt"
	"strings"
)

// message is a case in which one message goes forth and back.
func message(id string, op byte, payload string, send func(c *client, f frame)) testCase {
	kind := "text"
	if op == opBinary {
		kind = "binary"
	}
	return testCase{
		id: id, want: []event{{kind, payload}}, end: fine,
		run: func(c *client) { send(c, part(op, true, payload)) },
	}
}

func whole(c *client, f frame) { c.send(f) }

func chopped(size int) func(*client, frame) {
	return func(c *client, f frame) { c.sendChops(size, f) }
}

// Three ways to write the same frames.
var (
	atOnce   = (*client).send
	byFrame  = (*client).sendEach
	byOctets = (*client).sendOctets
)

type writing = func(c *client, frames ...frame)

// framingCases are group 1: sizes around those where the header changes.
func framingCases() (all []testCase) {
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
		send := whole
		if i == 7 {
			send = chopped(997)
		}
		all = append(all, message(fmt.Sprintf("1.1.%d", i+1), opText, textOf(n), send))
	}
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
		send := whole
		if i == 7 {
			send = chopped(997)
		}
		all = append(all, message(fmt.Sprintf("1.2.%d", i+1), opBinary, binaryOf(n), send))
	}
	return all
}

// pingCases are group 2.
func pingCases() []testCase {
	one := func(id string, payload string, write writing) testCase {
		return testCase{
			id: id, want: []event{{"pong", payload}}, end: fine,
			run: func(c *client) { write(c, ping(payload)) },
		}
	}
	// Whoever gives nothing back is asked to close at once: an answer would
	// come before the close frame.
	unasked := func(id string, payload string) testCase {
		return testCase{id: id, end: fine, run: func(c *client) { c.send(pong(payload)) }}
	}
	ten := func(id string, write writing) testCase {
		var frames []frame
		var want []event
		for i := range 10 {
			payload := fmt.Sprintf("payload-%d", i)
			frames, want = append(frames, ping(payload)), append(want, event{"pong", payload})
		}
		return testCase{id: id, want: want, end: fine, run: func(c *client) { write(c, frames...) }}
	}
	return []testCase{
		one("2.1", "", atOnce),
		one("2.2", "Hello, world!", atOnce),
		one("2.3", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", atOnce),
		one("2.4", strings.Repeat("\xfe", 125), atOnce),
		{id: "2.5", end: failedBy(1002), run: func(c *client) { c.send(ping(strings.Repeat("\xfe", 126))) }},
		one("2.6", strings.Repeat("\xfe", 125), byOctets),
		unasked("2.7", ""),
		unasked("2.8", "unasked for"),
		{
			id: "2.9", want: []event{{"pong", "asked for"}}, end: fine,
			run: func(c *client) { c.send(pong("unasked for"), ping("asked for")) },
		},
		ten("2.10", atOnce),
		ten("2.11", byOctets),
	}
}

// afterText is a case in which a good message is followed by a frame that ends
// the connection, and that by a ping that nobody must answer.
func afterText(id string, bad frame, write writing) testCase {
	const hello = "Hello, world!"
	return testCase{
		id: id, want: []event{{"text", hello}}, loose: []event{}, end: failedBy(1002),
		run: func(c *client) { write(c, text(hello), bad, ping("")) },
	}
}

func alone(id string, bad ...frame) testCase {
	return testCase{id: id, end: failedBy(1002), run: func(c *client) { c.send(bad...) }}
}

// reservedBitCases are group 3.
func reservedBitCases() []testCase {
	with := func(f frame, rsv byte) frame { f.rsv = rsv; return f }
	hello := text("Hello, world!")
	return []testCase{
		alone("3.1", with(hello, 1)),
		afterText("3.2", with(hello, 2), atOnce),
		afterText("3.3", with(hello, 3), byFrame),
		afterText("3.4", with(hello, 4), byOctets),
		alone("3.5", with(part(opBinary, true, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), 5)),
		alone("3.6", with(ping("Hello, world!"), 6)),
		// It is a close frame, and yet the server is the first to close.
		{id: "3.7", end: failedBy(1002), run: func(c *client) {
			c.put(appendFrame(nil, with(closing(1000, ""), 7), key()))
		}},
	}
}

// opcodeCases are group 4: opcodes that RFC 6455 §5.2 reserves.
func opcodeCases() (all []testCase) {
	for group, first := range []byte{3, 11} {
		for i := range 5 {
			id := fmt.Sprintf("4.%d.%d", group+1, i+1)
			bad := part(first+byte(i), true, []string{"", "reserved opcode", "", "reserved opcode", ""}[i])
			switch i {
			case 0, 1:
				all = append(all, alone(id, bad))
			case 4:
				all = append(all, afterText(id, bad, byOctets))
			default:
				all = append(all, afterText(id, bad, atOnce))
			}
		}
	}
	return all
}
