package api

import (
	"regexp"
	"testing"
	"unicode/utf8"
)

// TestReasons holds every ending against the contract's table of close codes.
func TestReasons(t *testing.T) {
	want := map[Reason]uint16{
		ReasonClient: 1000, ReasonDrain: 1001,
		ReasonProtocol: 1002, ReasonBinary: 1003, ReasonUTF8: 1007, ReasonInflate: 1007, ReasonFlood: 1008, ReasonTooLarge: 1009,
		ReasonLost:         1006,
		ReasonDisconnected: 4000, ReasonRevoked: 4000, ReasonReplaced: 4001, ReasonOtherUser: 4002,
		ReasonSlow: 4100, ReasonHeartbeat: 4101, ReasonOverload: 4102,
		ReasonExpired: 4200,
	}
	label := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	labels, codes := map[string]Reason{}, map[uint16]Reason{}
	for _, r := range Reasons() {
		if code, ok := want[r]; !ok || r.Code() != code {
			t.Errorf("%s has code %d, want %d", r, r.Code(), code)
		}
		delete(want, r)
		if !label.MatchString(r.String()) {
			t.Errorf("%q is no metric label", r.String())
		}
		if other, ok := labels[r.String()]; ok {
			t.Errorf("%d and %d are both called %s", other, r, r)
		}
		labels[r.String()] = r
		if other, ok := codes[r.Code()]; ok && r != ReasonRevoked && r != ReasonInflate {
			t.Errorf("%s and %s both have code %d", other, r, r.Code())
		}
		codes[r.Code()] = r
		// RFC 6455 §5.5: a control frame has at most 125 bytes, two for the code.
		if len(r.Text()) > 123 || !utf8.ValidString(r.Text()) {
			t.Errorf("%s: the text %q does not fit a close frame", r, r.Text())
		}
		// A client is told why, unless it said so itself or is not there.
		if silent := r == ReasonClient || r == ReasonLost; silent != (r.Text() == "") {
			t.Errorf("%s has the text %q", r, r.Text())
		}
	}
	for r, code := range want {
		t.Errorf("Reasons leaves out %d (%d)", r, code)
	}
	if _, ok := labels[ReasonNone.String()]; ok {
		t.Error("an open session has an ending's label")
	}
}
