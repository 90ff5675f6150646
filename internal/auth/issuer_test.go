package auth

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/api"
)

// tenants are two issuers with keys of their own.
func tenants(change func(red, blue *Issuer)) func(*Options) {
	return func(o *Options) {
		red := Issuer{
			Name: "red", Issuer: "https://red.example", Audience: "push", Secret: []byte(strings.Repeat("r", 32)),
			Subscriptions: []string{"{issuer}.user.{sub}", "{issuer}.all"}, GrantCeiling: []string{"{issuer}.rooms.>"},
		}
		blue := Issuer{
			Name: "blue", Issuer: "https://blue.example", Secret: []byte(strings.Repeat("b", 32)),
			Subscriptions: []string{"sky.user.{sub}"},
		}
		if change != nil {
			change(&red, &blue)
		}
		o.Issuers = []Issuer{red, blue}
	}
}

func TestSeveralIssuers(t *testing.T) {
	v := newVerifier(t, tenants(nil))
	sign := func(key, iss string, more map[string]any) string {
		claims := map[string]any{"sub": "alice", "iss": iss, "exp": in(time.Hour), "aud": "push"}
		for k, value := range more {
			claims[k] = value
		}
		token, err := Mint([]byte(strings.Repeat(key, 32)), claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for _, tc := range []struct {
		name, token, want string // the user and the subjects, or a reason
	}{
		{"of red", sign("r", "https://red.example", nil), "red/alice red.user.alice red.all"},
		{"of blue", sign("b", "https://blue.example", nil), "blue/alice sky.user.alice"},
		{"of red with blue's key", sign("b", "https://red.example", nil), "bad_signature"},
		{"of blue with red's key", sign("r", "https://blue.example", nil), "bad_signature"},
		{"of nobody", sign("r", "https://green.example", nil), "issuer"},
		{"of no iss", sign("r", "", nil), "issuer"},
		{"iss a list", sign("r", "", map[string]any{"iss": []string{"https://red.example"}}), "issuer"},
		{"red's audience", sign("r", "https://red.example", map[string]any{"aud": "pull"}), "audience"},
		{"a sub with a slash", sign("r", "https://red.example", map[string]any{"sub": "blue/bob"}), "red/blue/bob red.user.blue/bob red.all"},
		{"iss twice", signKey([]byte(strings.Repeat("r", 32)), plain, `{"iss":"https://red.example","iss":"https://blue.example","sub":"a","exp":1767358800}`), "malformed"},
	} {
		id, err := v.Verify(tc.token)
		got := id.User + " " + strings.Join(id.Subjects, " ")
		if err != nil {
			got = err.(*Error).Reason.String()
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	// The ceiling holds whatever the claim says; without one it grants nothing.
	red, _ := v.Verify(sign("r", "https://red.example", map[string]any{"subscribe": []string{">", "!red.rooms.9"}}))
	blue, _ := v.Verify(sign("b", "https://blue.example", map[string]any{"subscribe": []string{">"}}))
	for pattern, want := range map[string]bool{
		"red.rooms.1": true, "red.rooms.*.x": true, "red.rooms.9": false, "red.rooms.>": false, "red.>": false, ">": false,
		"red.user.bob": false, "sky.user.alice": false, "red.all": true,
	} {
		if red.MaySubscribe(pattern) != want {
			t.Errorf("red may subscribe to %s: %v", pattern, !want)
		}
	}
	for pattern, want := range map[string]bool{"sky.user.alice": true, "sky.user.bob": false, "sky.rooms.1": false, "red.rooms.1": false, ">": false} {
		if blue.MaySubscribe(pattern) != want {
			t.Errorf("blue may subscribe to %s: %v", pattern, !want)
		}
	}
	// Revoking red's alice leaves blue's alone.
	v.Revoke("red/alice", in(0))
	if !v.Revoked("red/alice", 0) || v.Revoked("blue/alice", 0) || v.Revoked("alice", 0) {
		t.Error("a revocation reaches the wrong tenant")
	}
}

func TestOneNamedIssuer(t *testing.T) {
	v := newVerifier(t, func(o *Options) {
		o.Issuers[0].Name, o.Issuers[0].Subscriptions = "red", []string{"user.{sub}", "{issuer}.x"}
	})
	id, err := v.Verify(mint(t, map[string]any{"sub": "alice", "exp": in(time.Hour)}))
	if err != nil || id.User != "red/alice" || strings.Join(id.Subjects, " ") != "user.alice red.x" {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestIssuersRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(red, blue *Issuer)
		want   string
	}{
		{"same template", func(red, blue *Issuer) { blue.Subscriptions = []string{"red.user.{sub}"} }, "could meet on a subject: red.user.* and red.user.* overlap"},
		{"same literal", func(red, blue *Issuer) { blue.Subscriptions = []string{"red.all"} }, "red.all and red.all overlap"},
		{"a claim that could be the other's root", func(red, blue *Issuer) { blue.Subscriptions = []string{"{org}.user.x"} }, "overlap"},
		{"part of a token", func(red, blue *Issuer) { blue.Subscriptions = []string{"r{org}.all"} }, "overlap"},
		{"wildcard", func(red, blue *Issuer) { blue.Subscriptions = []string{"*.all"} }, "overlap"},
		{"everything", func(red, blue *Issuer) { blue.Subscriptions = []string{">"} }, "overlap"},
		{"ceiling over the other's templates", func(red, blue *Issuer) { blue.GrantCeiling = []string{"red.user.>"} }, "overlap"},
		{"ceiling over the other's ceiling", func(red, blue *Issuer) { blue.GrantCeiling = []string{"*.rooms.x"} }, "overlap"},
		{"the default templates", func(red, blue *Issuer) {
			red.Subscriptions, blue.Subscriptions = []string{"user.{sub}"}, []string{"user.{sub}"}
		}, "the issuers red and blue could meet on a subject: user.* and user.* overlap"},
		{"same name", func(red, blue *Issuer) { blue.Name = "red" }, `two issuers have the name "red"`},
		{"same iss", func(red, blue *Issuer) { blue.Issuer = red.Issuer }, `the issuers red and blue have the same iss`},
		{"no iss", func(red, blue *Issuer) { blue.Issuer = "" }, "needs its own iss"},
		{"no name", func(red, blue *Issuer) { blue.Name = "" }, "issuer's name"},
		{"slash in a name", func(red, blue *Issuer) { blue.Name = "red/x" }, "issuer's name"},
		{"dot in a name", func(red, blue *Issuer) { blue.Name = "a.b" }, "issuer's name"},
		{"brace in a name", func(red, blue *Issuer) { blue.Name = "{sub}" }, "issuer's name"},
		{"long name", func(red, blue *Issuer) { blue.Name = strings.Repeat("x", 65) }, "issuer's name"},
		{"no key", func(red, blue *Issuer) { blue.Secret = nil }, "no key"},
		{"two kinds of keys", func(red, blue *Issuer) { blue.JWKSURL = "https://a/" }, "keep one"},
		{"bad ceiling", func(red, blue *Issuer) { blue.GrantCeiling = []string{"a..b"} }, "grant ceiling"},
		{"ceiling with a claim", func(red, blue *Issuer) { blue.GrantCeiling = []string{"sky.{sub}"} }, "grant ceiling"},
		{"http from elsewhere", func(red, blue *Issuer) { blue.Secret, blue.JWKSURL = nil, "http://id.example/keys" }, "must be https"},
		{"login in the URL", func(red, blue *Issuer) { blue.Secret, blue.JWKSURL = nil, "https://a:b@id.example/keys" }, "login"},
		{"no URL", func(red, blue *Issuer) { blue.Secret, blue.JWKSURL = nil, "keys" }, "not a URL"},
	} {
		var o Options
		tenants(tc.change)(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, err := New(Options{Issuers: []Issuer{{Secret: secret, Subscriptions: []string{"{issuer}.x"}}}}); err == nil || !strings.Contains(err.Error(), "{issuer}") {
		t.Errorf("{issuer} of an issuer without a name: %v", err)
	}
}

// TestIssuersNeverMeet has two issuers configured at random. Where start-up
// takes them, no two of their tokens reach a common subject, whatever the
// claims are.
func TestIssuersNeverMeet(t *testing.T) {
	part := rapid.SampledFrom([]string{"red", "blue", "x", "{sub}", "{c}", "{c:b64}", "{issuer}", "x-{c}", "*", "{issuer}-{sub}"})
	template := rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(part, 1, 3).Draw(t, "tokens")
		if rapid.IntRange(0, 5).Draw(t, "tail") == 0 {
			tokens = append(tokens, ">")
		}
		return strings.Join(tokens, ".")
	})
	word := rapid.SampledFrom([]string{"red", "blue", "x", "x-red", "red-x", "a"})
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		var o Options
		tenants(func(red, blue *Issuer) {
			for _, i := range []*Issuer{red, blue} {
				i.Audience = ""
				i.Subscriptions = rapid.SliceOfN(template, 1, 3).Draw(rt, "templates of "+i.Name)
				i.GrantCeiling = nil
				if rapid.Bool().Draw(rt, "ceiling") {
					i.GrantCeiling = []string{rapid.SampledFrom([]string{"{issuer}.>", "x.*", "red.rooms.*", "blue.>", "*.a"}).Draw(rt, "of")}
				}
			}
		})(&o)
		o.Now = func() time.Time { return noon }
		v, err := New(o)
		if err != nil {
			return
		}
		taken++
		var ids []Identity
		for n, key := range []string{"r", "b"} {
			token, err := Mint([]byte(strings.Repeat(key, 32)), map[string]any{
				"iss": o.Issuers[n].Issuer, "exp": in(time.Hour), "sub": word.Draw(rt, "sub"),
				"c": rapid.SliceOfN(word, 1, 3).Draw(rt, "c"), "subscribe": []string{">"},
			})
			if err != nil {
				rt.Fatal(err)
			}
			id, err := v.Verify(token)
			if err != nil {
				return
			}
			ids = append(ids, id)
		}
		for _, p := range ids[0].Subjects {
			for _, q := range ids[1].Subjects {
				if api.Overlap(p, q) {
					rt.Fatalf("%s and %s meet", p, q)
				}
			}
			if ids[1].MaySubscribe(p) {
				rt.Fatalf("blue may subscribe to red's %s", p)
			}
		}
		for _, q := range ids[1].Subjects {
			if ids[0].MaySubscribe(q) {
				rt.Fatalf("red may subscribe to blue's %s", q)
			}
		}
	})
	if taken == 0 {
		t.Error("no pair was ever taken")
	}
}
