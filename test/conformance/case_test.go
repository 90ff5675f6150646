package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Results, as the original calls them.
const (
	resultOK            = "OK"
	resultNonStrict     = "NON-STRICT"
	resultInformational = "INFORMATIONAL"
	resultUnimplemented = "UNIMPLEMENTED"
	resultFailed        = "FAILED"
	resultUnclean       = "UNCLEAN"
	resultWrongCode     = "WRONG CODE"
	resultByClient      = "FAILED BY CLIENT"
)

// ending is how a connection must end.
type ending struct {
	byMe  bool  // the client begins to close; else the server, which fails the connection
	clean bool  // the server's close frame must come, without a code if it likes
	codes []int // what it may say; the first is what the client closes with
}

// fine is the end of a case in which all is well: the client closes when it has
// everything.
var fine = ending{byMe: true, clean: true, codes: []int{1000}}

// failedBy is the end of one that the server must fail.
func failedBy(codes ...int) ending { return ending{codes: codes} }

// testCase is one case.
type testCase struct {
	id     string
	offers string // of extensions
	run    func(c *client)

	want  []event
	loose []event // what is allowed, too; nil for nothing
	end   ending

	informational bool
	unimplemented bool // the extension must not be negotiated
}

// verdict is how a case came out.
type verdict struct {
	id, behaviour, close string
	took                 time.Duration
	detail               string // where it is not what it should be
}

func (v *verdict) passed() bool {
	return v.behaviour == resultOK && v.close == resultOK ||
		v.behaviour == resultInformational || v.behaviour == resultUnimplemented
}

// play runs a case against a gateway.
func (tc *testCase) play(g *gateway) verdict {
	began := time.Now()
	v := verdict{id: tc.id, behaviour: resultFailed, close: resultFailed}
	c, err := dial(g, tc.offers)
	if err != nil {
		v.detail = err.Error()
		return v
	}
	defer c.end()
	tc.run(c)
	if tc.end.byMe && !c.closing {
		c.await(patience, func() bool { return c.closed || !prefix(c.events, tc.want) || len(c.events) >= len(tc.want) })
		if !c.closed {
			c.send(closing(uint16(tc.end.codes[0]), ""))
		}
	}
	c.await(patience, func() bool { return c.gone })
	v.behaviour, v.close, v.took = tc.judge(c), tc.judgeClose(c), time.Since(began)
	if !v.passed() {
		v.detail = tc.describe(c)
	}
	return v
}

func prefix(got, want []event) bool {
	return len(got) <= len(want) && slices.Equal(got, want[:len(got)])
}

func (tc *testCase) judge(c *client) string {
	switch {
	case c.broken != nil, tc.unimplemented != (tc.offers != "" && c.deflate == nil):
		return resultFailed
	case tc.informational:
		return resultInformational
	case slices.Equal(c.events, tc.want) && tc.unimplemented:
		return resultUnimplemented
	case slices.Equal(c.events, tc.want):
		return resultOK
	case tc.loose != nil && slices.Equal(c.events, tc.loose):
		return resultNonStrict
	}
	return resultFailed
}

func (tc *testCase) judgeClose(c *client) string {
	switch {
	case tc.informational && c.gone:
		return resultInformational
	case c.byMe != tc.end.byMe:
		return resultFailed
	case !c.closed:
		return resultUnclean
	case !slices.Contains(tc.end.codes, c.code) && (!tc.end.clean || c.code != -1):
		return resultWrongCode
	case !c.gone:
		return resultByClient
	}
	return resultOK
}

// describe says what came and what was due.
func (tc *testCase) describe(c *client) string {
	var b strings.Builder
	fmt.Fprintf(&b, "came %v, want %v", c.events, tc.want)
	fmt.Fprintf(&b, "; close frame %v, code %d %q; begun by the client %v, want %v, codes %v; TCP ended by the server %v",
		c.closed, c.code, c.reason, c.byMe, tc.end.byMe, tc.end.codes, c.gone)
	if c.broken != nil {
		fmt.Fprintf(&b, "; %v", c.broken)
	}
	if c.writeErr != nil {
		fmt.Fprintf(&b, "; writing: %v", c.writeErr)
	}
	return b.String()
}
