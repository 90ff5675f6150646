package conformance

import "fmt"

// limitCases are group 9: large messages, many fragments, many pieces, many
// messages.
func limitCases() (all []testCase) {
	const kib, mib = 1 << 10, 1 << 20
	large := func(group, i int, op byte, n int, send func(*client, frame)) {
		payload := textOf(n)
		if op == opBinary {
			payload = binaryOf(n)
		}
		all = append(all, message(fmt.Sprintf("9.%d.%d", group, i+1), op, payload, send))
	}
	fragmented := func(size int) func(*client, frame) {
		return func(c *client, f frame) { c.send(fragments(f.op, f.payload, size)...) }
	}
	sizes := []int{64 * kib, 256 * kib, mib, 4 * mib, 8 * mib, 16 * mib}
	parts := []int{64, 256, kib, 4 * kib, 16 * kib, 64 * kib, 256 * kib, mib, 4 * mib}
	chops := []int{64, 128, 256, 512, kib, 2 * kib}
	for k, op := range []byte{opText, opBinary} {
		for i, n := range sizes {
			large(1+k, i, op, n, whole)
		}
	}
	for k, op := range []byte{opText, opBinary} {
		for i, size := range parts {
			large(3+k, i, op, 4*mib, fragmented(size))
		}
	}
	for k, op := range []byte{opText, opBinary} {
		for i, size := range chops {
			large(5+k, i, op, mib, chopped(size))
		}
	}
	for k, op := range []byte{opText, opBinary} {
		for i, n := range []int{0, 16, 64, 256, kib, 4 * kib} {
			all = append(all, roundTrips(fmt.Sprintf("9.%d.%d", 7+k, i+1), op, n, 1000))
		}
	}
	return all
}

// roundTrips sends message after message, each when the one before is back.
func roundTrips(id string, op byte, n, count int) testCase {
	tc := message(id, op, textOf(n), nil)
	if op == opBinary {
		tc = message(id, op, binaryOf(n), nil)
	}
	f := part(op, true, tc.want[0].payload)
	tc.run = func(c *client) {
		for i := range count {
			c.send(f)
			if !c.await(patience, func() bool { return len(c.events) > 0 }) || i+1 == count || c.events[0] != tc.want[0] {
				return // what came is judged
			}
			c.events = c.events[:0]
		}
	}
	return tc
}

// miscCases are group 10: one message in fragments as a client's library makes
// them by itself.
func miscCases() []testCase {
	return []testCase{message("10.1.1", opText, textOf(65536), func(c *client, f frame) {
		c.send(fragments(f.op, f.payload, 1300)...)
	})}
}
