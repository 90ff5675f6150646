package auth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/api"
)

func claimsWith(more map[string]any) map[string]any {
	m := map[string]any{"sub": "alice", "exp": in(time.Hour)}
	maps.Copy(m, more)
	return m
}

func TestFill(t *testing.T) {
	tests := []struct {
		name      string
		templates []string
		claims    map[string]any
		want      []string
	}{
		{"none", nil, nil, []string{}},
		{"literals", []string{"a", "b.>", "*.c"}, nil, []string{"a", "b.>", "*.c"}},
		{"duplicates", []string{"user.{sub}", "broadcast", "user.alice", "broadcast"}, nil, []string{"user.alice", "broadcast"}},
		{"wildcards of the template", []string{"user.{sub}.>", "*.{sub}"}, nil, []string{"user.alice.>", "*.alice"}},
		{"sub twice", []string{"u-{sub}.v-{sub}-w"}, nil, []string{"u-alice.v-alice-w"}},
		{"claim", []string{"team.{team}"}, map[string]any{"team": "red"}, []string{"team.red"}},
		{"sub and claim", []string{"{team}.{sub}"}, map[string]any{"team": "red"}, []string{"red.alice"}},
		{"nested", []string{"org.{org.unit.id}"}, map[string]any{"org": map[string]any{"unit": map[string]any{"id": 7}}}, []string{"org.7"}},
		{"integer", []string{"n.{n}"}, map[string]any{"n": json.Number("90071992547409931")}, []string{"n.90071992547409931"}},
		{"negative integer", []string{"n.{n}"}, map[string]any{"n": -5}, []string{"n.-5"}},
		{"list", []string{"room.{rooms}.>"}, map[string]any{"rooms": []any{"a", 2, "a"}}, []string{"room.a.>", "room.2.>"}},
		{"empty list", []string{"room.{rooms}", "broadcast"}, map[string]any{"rooms": []any{}}, []string{"broadcast"}},
		{"two lists", []string{"{a}.{b}"}, map[string]any{"a": []any{"x", "y"}, "b": []any{"1", "2"}}, []string{"x.1", "x.2", "y.1", "y.2"}},
		{"base64url of sub", []string{"user.{sub:b64}"}, nil, []string{"user.YWxpY2U"}},
		{"base64url of a wild claim", []string{"m.{mail:b64}"}, map[string]any{"mail": "a.*b@c>"}, []string{"m.YS4qYkBjPg"}},
		{"not ASCII", []string{"user.{sub}"}, map[string]any{"sub": "Zoë🚀"}, []string{"user.Zoë🚀"}},
		{"longest", []string{"user.{sub}"}, map[string]any{"sub": strings.Repeat("x", 128)}, []string{"user." + strings.Repeat("x", 128)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := newVerifier(t, subscriptions(tt.templates...)).Verify(mint(t, claimsWith(tt.claims)))
			if err != nil || !slices.Equal(id.Subjects, tt.want) {
				t.Errorf("got %q, %v, want %q", id.Subjects, err, tt.want)
			}
		})
	}
}

func TestFillRefuses(t *testing.T) {
	list := func(n int) []any {
		l := make([]any, n)
		for i := range l {
			l[i] = i
		}
		return l
	}
	tests := []struct {
		name     string
		template string
		claims   map[string]any
		want     string
	}{
		{"missing", "t.{team}", nil, "The token's claim team is missing, and a subscription needs it."},
		{"null", "t.{team}", map[string]any{"team": nil}, "claim team is missing"},
		{"missing inside", "t.{org.id}", map[string]any{"org": map[string]any{}}, "claim org.id is missing"},
		{"not an object", "t.{org.id}", map[string]any{"org": "x"}, "claim org.id is missing"},
		{"not under the dotted name", "t.{org.id}", map[string]any{"org.id": "x"}, "claim org.id is missing"},
		{"boolean", "t.{team}", map[string]any{"team": true}, "neither a string nor an integer"},
		{"fraction", "t.{team}", map[string]any{"team": 1.5}, "neither a string nor an integer"},
		{"exponent", "t.{team}", map[string]any{"team": json.Number("1e3")}, "neither a string nor an integer"},
		{"minus nought", "t.{team}", map[string]any{"team": json.Number("-0")}, "neither a string nor an integer"},
		{"object", "t.{team}", map[string]any{"team": map[string]any{"a": 1}}, "neither a string nor an integer"},
		{"list in a list", "t.{team}", map[string]any{"team": []any{[]any{"a"}}}, "neither a string nor an integer"},
		{"dot in a list", "t.{team}", map[string]any{"team": []any{"a", "b.c"}}, "claim team cannot be part of a subject"},
		{"list too long", "t.{team}", map[string]any{"team": list(65)}, "claim team has too many values"},
		{"product too long", "{a}.{b}", map[string]any{"a": list(9), "b": list(9)}, "claim b has too many values"},
		{"subject too long", "{a}.{b}", map[string]any{"a": strings.Repeat("x", 128), "b": strings.Repeat("y", 128)}, "too long"},
		{"base64url of nothing", "t.{team:b64}", map[string]any{"team": ""}, "must be text of 1 to 128 bytes"},
		{"base64url of too much", "t.{team:b64}", map[string]any{"team": strings.Repeat("x", 129)}, "must be text of 1 to 128 bytes"},
		{"sub with a dot, though encoded", "t.{sub:b64}", map[string]any{"sub": "a.b"}, "claim sub cannot be a user"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newVerifier(t, subscriptions(tt.template)).Verify(mint(t, claimsWith(tt.claims)))
			e := refused(t, err)
			if !e.Reason.Forbidden() || !strings.Contains(e.Message, tt.want) {
				t.Errorf("got %s %q, want %q", e.Reason, e.Message, tt.want)
			}
		})
	}
	t.Run("key twice inside", func(t *testing.T) {
		token := sign(plain, `{"sub":"alice","exp":1767358800,"org":{"id":"a","id":"b"}}`)
		_, err := newVerifier(t, subscriptions("t.{org.id}")).Verify(token)
		if e := refused(t, err); !strings.Contains(e.Message, "a key twice") {
			t.Errorf("got %q", e.Message)
		}
	})
	t.Run("too many in all", func(t *testing.T) {
		v := newVerifier(t, subscriptions("a.{l}", "b.{l}", "c.{l}", "d.{l}", "e"))
		_, err := v.Verify(mint(t, claimsWith(map[string]any{"l": list(64)})))
		if e := refused(t, err); !strings.Contains(e.Message, "more than 64 subscriptions") {
			t.Errorf("got %q", e.Message)
		}
	})
}

// Each of these would be a wider subject, a broken one, or somebody else's.
func TestUnfitUsers(t *testing.T) {
	v := newVerifier(t)
	for _, sub := range []string{
		"", ".", "a.b", "*", ">", "a*", "a>", " ", "a b", "a\tb", "a\x00b", "a\r\nb", "\x7f",
		"\u0080", "\u0085", "\u009f", "a\u00a0b", "\u2003", "\u2028", "\u3000", "\ufeff", "\ufffd",
		strings.Repeat("x", 129), strings.Repeat("ë", 65),
	} {
		_, err := v.Verify(mint(t, claimsWith(map[string]any{"sub": sub})))
		if e := refused(t, err); e.Reason != ReasonBadClaim {
			t.Errorf("%q: got %s", sub, e.Reason)
		}
	}
	// Two halves of surrogate pairs would both become U+FFFD.
	_, err := v.Verify(sign(plain, `{"sub":"\ud800","exp":1767358800}`))
	if e := refused(t, err); e.Reason != ReasonBadClaim {
		t.Errorf("lone surrogate: got %s", e.Reason)
	}
}

func TestCheckTemplate(t *testing.T) {
	for _, good := range []string{"broadcast", "user.{sub}", "{sub}", "a.{b.c}.>", "{sub:b64}.*", "x-{sub}-y.{z}"} {
		if err := CheckTemplate(good, ""); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	tests := []struct{ template, want string }{
		{"", "is not a subject"},
		{"a..b", "is not a subject"},
		{"a.>.b", "is not a subject"},
		{"user.*{sub}", "is not a subject"},
		{"user.{sub}>", "is not a subject"},
		{"user. {sub}", "is not a subject"},
		{"user.{sub", "has a { without a }"},
		{"user.sub}", "has a } without a {"},
		{"user.{}", "does not name a claim"},
		{"user.{a..b}", "does not name a claim"},
		{"user.{{sub}", "does not name a claim"},
		{"user.{*}", "does not name a claim"},
		{"user.{sub:hex}", `the encoding "hex": only b64 is known`},
		{"{org}{sub}", "two claims in one token"},
		{"a.{org}-{sub}", "two claims in one token"},
		{strings.Repeat("x", 256), "is not a subject"},
	}
	for _, tt := range tests {
		if err := CheckTemplate(tt.template, ""); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.template, err, tt.want)
		}
	}
}

// Two users never share a subject that a template makes from their names.
func TestUsersStayApart(t *testing.T) {
	name := rapid.StringOfN(rapid.RuneFrom([]rune("ab-_.*> é\u0085")), 1, 6, -1)
	templates := rapid.SampledFrom([]string{"user.{sub}", "{sub}.x", "u-{sub}-v", "{sub:b64}", "{t}.{sub}.>"})
	rapid.Check(t, func(rt *rapid.T) {
		v := newVerifier(t, subscriptions(templates.Draw(rt, "template")))
		a, b := name.Draw(rt, "a"), name.Draw(rt, "b")
		one, errA := v.Verify(mint(t, claimsWith(map[string]any{"sub": a, "t": "t"})))
		two, errB := v.Verify(mint(t, claimsWith(map[string]any{"sub": b, "t": "t"})))
		if (errA == nil) != api.ValidToken(a) {
			rt.Fatalf("%q: %v", a, errA)
		}
		if errA == nil && errB == nil && (one.Subjects[0] == two.Subjects[0]) != (a == b) {
			rt.Fatalf("%q and %q: %q and %q", a, b, one.Subjects, two.Subjects)
		}
	})
}

// The walker over members sees what encoding/json sees.
func TestVisit(t *testing.T) {
	leaf := rapid.OneOf(rapid.String().AsAny(), rapid.Int().AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil))
	value := rapid.OneOf(leaf, rapid.SliceOf(leaf).AsAny(), rapid.MapOf(rapid.String(), leaf).AsAny())
	rapid.Check(t, func(rt *rapid.T) {
		object := rapid.MapOf(rapid.String(), value).Draw(rt, "object")
		raw, err := json.Marshal(object)
		if err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "indent") {
			raw, _ = json.MarshalIndent(object, " ", "\t")
		}
		seen := map[string]json.RawMessage{}
		if err := visit(raw, func(k, v []byte) { seen[string(k)] = v }); err != nil {
			rt.Fatal(err)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			rt.Fatal(err)
		}
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			rt.Fatalf("got %s, want %s", seen, want)
		}
	})
}

func TestBase64IsOneToken(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.StringN(1, -1, 128).Draw(rt, "claim")
		if strings.ContainsRune(s, '\ufffd') {
			rt.Skip("refused")
		}
		id, err := newVerifier(t, subscriptions("x.{c:b64}")).Verify(mint(t, claimsWith(map[string]any{"c": s})))
		if err != nil {
			rt.Fatal(err)
		}
		back, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(id.Subjects[0], "x."))
		if err != nil || string(back) != s {
			rt.Fatalf("%q came back as %q, %v", s, back, err)
		}
	})
}
