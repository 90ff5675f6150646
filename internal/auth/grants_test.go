package auth

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/api"
)

func granted(t testing.TB, v *Verifier, subscribe any) Identity {
	t.Helper()
	id, err := v.Verify(mint(t, claimsWith(map[string]any{"sub": "alice", "subscribe": subscribe})))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestGrants(t *testing.T) {
	v := newVerifier(t, subscriptions("user.{sub}", "team.{sub}.>"))
	for _, tc := range []struct {
		subscribe string // space separated
		pattern   string
		want      bool
	}{
		{"", "user.alice", true},
		{"", "user.bob", false},
		{"", "user.*", false},
		{"", "team.alice.news", true},
		{"", "team.alice.*", true},
		{"", "team.alice.>", true},
		{"", "team.alice", false},
		{"rooms.*", "rooms.1", true},
		{"rooms.*", "rooms.*", true},
		{"rooms.*", "rooms.>", false},
		{"rooms.*", "rooms", false},
		{"rooms.*", "rooms.1.2", false},
		{"rooms.*", "*.1", false},
		{"rooms.>", "rooms.>", true},
		{"rooms.>", "rooms.*.x", true},
		{"rooms.>", ">", false},
		{">", ">", true},
		{"a.b", "a.b", true},
		{"a.b", "a.*", false},
		{"rooms.1 rooms.2", "rooms.*", false},
		{"rooms.> !rooms.secret", "rooms.1", true},
		{"rooms.> !rooms.secret", "rooms.secret", false},
		{"rooms.> !rooms.secret", "rooms.*", false},
		{"rooms.> !rooms.secret", "rooms.>", false},
		{"rooms.> !rooms.secret", "rooms.*.x", true},
		{"!rooms.secret rooms.>", "rooms.secret", false},
		{"> !user.*", "user.alice", false},
		{"> !user.*", "other", true},
		{"!team.alice.private", "team.alice.private", false},
		{"!team.alice.private", "team.alice.>", false},
		{"!team.alice.private", "team.alice.news", true},
		{"!a", "a", false},
		{"!a", "b", false},
	} {
		id := granted(t, v, strings.Fields(tc.subscribe))
		if got := id.MaySubscribe(tc.pattern); got != tc.want {
			t.Errorf("[%s] lets it subscribe to %s: %v", tc.subscribe, tc.pattern, got)
		}
	}
}

// TestBadGrants: what cannot be understood grants nothing, not even a session.
func TestBadGrants(t *testing.T) {
	v := newVerifier(t)
	for _, subscribe := range []any{
		"rooms.*", 7, true, map[string]any{"rooms": 1}, []any{1}, []any{[]any{"a"}}, []any{""}, []any{"!"},
		[]any{"a..b"}, []any{"a b"}, []any{"a.>.b"}, []any{"a\x00"}, []any{"rooms.*", "a*"}, []any{" a"}, []any{"! a"},
		[]any{strings.Repeat("x", 256)}, []any{nil},
	} {
		_, err := v.Verify(mint(t, claimsWith(map[string]any{"sub": "alice", "subscribe": subscribe})))
		if e := refused(t, err); e.Reason != ReasonBadClaim || !strings.Contains(e.Message, "claim subscribe") {
			t.Errorf("%v: %s %q", subscribe, e.Reason, e.Message)
		}
	}
	if id := granted(t, v, []string{}); id.Grants != nil {
		t.Error("an empty list is no grant")
	}
}

func TestGrantKeys(t *testing.T) {
	v := newVerifier(t)
	a, same := granted(t, v, []string{"a.*", "!b"}).Grants, granted(t, v, []string{"a.*", "!b"}).Grants
	if a.Key() != same.Key() {
		t.Errorf("%q and %q", a.Key(), same.Key())
	}
	for _, other := range [][]string{{"a.*"}, {"!b"}, {"a.*", "b"}, {"!a.*", "b"}, {"a.*", "!b", "!c"}} {
		if g := granted(t, v, other).Grants; g.Key() == a.Key() {
			t.Errorf("%v has the key of another: %q", other, g.Key())
		}
	}
}

// TestGrantsAgainstReference: a subscription that is let through shows no
// subject that is denied, or neither granted nor a default; by plain looking at
// every subject.
func TestGrantsAgainstReference(t *testing.T) {
	v := newVerifier(t, subscriptions("a.{sub}", "b.>"))
	token := rapid.SampledFrom([]string{"a", "b", "alice", "*"})
	pattern := rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(token, 1, 3).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "tail") {
			tokens[len(tokens)-1] = ">"
		}
		return strings.Join(tokens, ".")
	})
	var subjects []string
	level := []string{""}
	for range 3 {
		var next []string
		for _, s := range level {
			for _, token := range []string{"a", "b", "alice", "else"} {
				next = append(next, strings.TrimPrefix(s+"."+token, "."))
			}
		}
		subjects, level = append(subjects, next...), next
	}
	yes := 0
	rapid.Check(t, func(rt *rapid.T) {
		claim := rapid.SliceOfN(rapid.Map(rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"", "", "!"}).Draw(t, "sign") + pattern.Draw(t, "pattern")
		}), func(s string) string { return s }), 0, 4).Draw(rt, "claim")
		wanted := pattern.Draw(rt, "wanted")
		id := granted(t, v, claim)
		if !id.MaySubscribe(wanted) {
			return
		}
		yes++
		for _, s := range subjects {
			if !api.Match(wanted, s) {
				continue
			}
			allowed := api.Match("a.alice", s) || api.Match("b.>", s)
			for _, c := range claim {
				if p, denies := strings.CutPrefix(c, "!"); !api.Match(p, s) {
					continue
				} else if denies {
					rt.Fatalf("%v lets %s through, which shows %s", claim, wanted, s)
				}
				allowed = true
			}
			if !allowed {
				rt.Fatalf("%v lets %s through, which shows %s", claim, wanted, s)
			}
		}
	})
	if yes == 0 {
		t.Error("nothing was ever let through")
	}
}

// FuzzSight: whatever an issuer writes into its tokens, they reach no subject
// of another issuer, and without a grant no event of another user.
func FuzzSight(f *testing.F) {
	v := newVerifier(f, func(o *Options) {
		for _, name := range []string{"red", "blue"} {
			o.Issuers = append(o.Issuers, Issuer{
				Name: name, Issuer: name, Secret: []byte(name + string(secret)),
				Subscriptions: []string{"{issuer}.user.{sub}", "{issuer}.org.{org.id}.>", "{issuer}.team-{teams}", "{issuer}.mail.{mail:b64}"},
				GrantCeiling:  []string{"{issuer}.>"},
			})
		}
		o.Issuers = o.Issuers[1:]
		o.MaxSubjects = 255
	})
	for _, claims := range []string{
		`"sub":"bob","org":{"id":"o"},"teams":["a","b"],"mail":"a.b@c"`,
		`"sub":"alice","org":{"id":1},"teams":"a","mail":"*","subscribe":["blue.>","!red.x",">"]`,
		`"sub":"x","iss":"blue"`,
	} {
		f.Add(claims, "blue.user.alice")
	}
	f.Fuzz(func(t *testing.T, claims, wanted string) {
		payload := `{"iss":"red","exp":1767358800,` + claims + `}`
		token := signKey([]byte("red"+string(secret)), plain, payload)
		id, err := v.Verify(token)
		if err != nil {
			return
		}
		sub, ok := strings.CutPrefix(id.User, "red/")
		if !ok || !api.ValidToken(sub) {
			t.Fatalf("the user is %q", id.User)
		}
		for _, s := range id.Subjects {
			if !api.ValidPattern(s) || !api.Covers("red.>", s) {
				t.Fatalf("%q receives %q", payload, s)
			}
			if sub != "alice" && api.Overlap(s, "red.user.alice") {
				t.Fatalf("%s receives %q", sub, s)
			}
		}
		if api.ValidPattern(wanted) && id.MaySubscribe(wanted) {
			if !api.Covers("red.>", wanted) {
				t.Fatalf("%q may subscribe to %q", payload, wanted)
			}
			if id.Grants == nil && sub != "alice" && api.Overlap(wanted, "red.user.alice") {
				t.Fatalf("%s may subscribe to %q", sub, wanted)
			}
		}
	})
}

func TestLifetimeIsBoundedFromIssue(t *testing.T) {
	v := newVerifier(t)
	for _, tc := range []struct {
		iat, exp time.Duration
		want     string
	}{
		{-time.Hour, time.Hour, "good"},
		{0, 24 * time.Hour, "good"},
		{-23 * time.Hour, time.Hour, "good"},
		{-23 * time.Hour, time.Hour + time.Second, "lifetime"},
		{-240 * time.Hour, time.Hour, "lifetime"},
	} {
		if got := reasonOf(v, mint(t, map[string]any{"sub": "a", "iat": in(tc.iat), "exp": in(tc.exp)})); got != tc.want {
			t.Errorf("from %s to %s: %s", tc.iat, tc.exp, got)
		}
	}
}
