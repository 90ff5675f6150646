package conformance

import (
	"flag"
	"slices"
	"testing"
)

var (
	full = flag.Bool("full", false, "as many messages in the compression cases as the original sends")
	tags = flag.String("gateway.tags", "", "more build tags for the gateway: portable")
)

// TestBaseCases are the 301 cases of groups 1 to 10.
func TestBaseCases(t *testing.T) {
	cases := slices.Concat(framingCases(), pingCases(), reservedBitCases(), opcodeCases(), fragmentCases(),
		textCases(), closeCases(), limitCases(), miscCases())
	if len(cases) != 301 {
		t.Fatalf("there are %d base cases", len(cases))
	}
	count := map[string]int{}
	for _, v := range playAll(t, startGateway(t, *tags), cases) {
		if v.passed() {
			count[v.behaviour]++
		}
	}
	if count[resultOK] != 298 || count[resultInformational] != 3 {
		t.Errorf("%v, want 298 OK and 3 INFORMATIONAL", count)
	}
}

// playAll runs cases one after the other.
func playAll(t *testing.T, g *gateway, cases []testCase) []verdict {
	verdicts := make([]verdict, 0, len(cases))
	for i := range cases {
		tc := &cases[i]
		t.Run(tc.id, func(t *testing.T) {
			v := tc.play(g)
			if verdicts = append(verdicts, v); !v.passed() {
				t.Errorf("%s, close %s: %s", v.behaviour, v.close, v.detail)
			}
		})
	}
	t.Logf("\n%s", table(verdicts))
	return verdicts
}
