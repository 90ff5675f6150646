package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"pushgate/api"
)

// FuzzVerify: whatever comes, Verify does not panic, and what it accepts is
// signed with the secret and has a user that is one token.
func FuzzVerify(f *testing.F) {
	f.Add(sign(plain, `{"sub":"alice","exp":1767358800}`))
	v := newVerifier(f, subscriptions("user.{sub}", "t.{a.b}"))
	f.Fuzz(func(t *testing.T, token string) {
		id, err := v.Verify(token)
		check(t, v, token, id, err)
		// The same text as header and as payload under a good signature, which
		// no fuzzer finds by itself.
		for _, signed := range []string{sign(token, `{"sub":"alice","exp":1767358800}`), sign(plain, token)} {
			id, err := v.Verify(signed)
			check(t, v, signed, id, err)
		}
	})
}

func check(t *testing.T, v *Verifier, token string, id Identity, err error) {
	if err != nil {
		if e := refused(t, err); e.Message == "" || e.Reason.String() == "" {
			t.Fatalf("refused without a reason: %#v", e)
		}
		return
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("accepted %d parts", len(parts))
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, mac(parts[0]+"."+parts[1])) {
		t.Fatalf("accepted a token that is not signed: %q", token)
	}
	if !api.ValidToken(id.User) || id.Expires <= v.now().Add(-v.leeway).Unix() || id.Expires > v.now().Add(v.maxLifetime+v.leeway).Unix() {
		t.Fatalf("accepted %+v", id)
	}
}

// FuzzTemplate: a filled-in template has the template's number of tokens and
// its wildcards, whatever the claim says.
func FuzzTemplate(f *testing.F) {
	f.Add("user.{sub}", "alice")
	f.Add("*.x-{c}.{d.e:b64}.>", "*.>")
	f.Fuzz(func(t *testing.T, template, claim string) {
		v, err := New(Options{
			Issuers: []Issuer{{Secret: secret, Subscriptions: []string{template}}},
			Now:     func() time.Time { return noon },
		})
		if err != nil {
			return
		}
		for _, value := range []any{claim, []any{"x", claim}, map[string]any{"e": claim}} {
			token := mint(t, map[string]any{"sub": claim, "c": value, "d": value, "exp": in(time.Hour)})
			id, err := v.Verify(token)
			if err != nil {
				continue
			}
			want := shape(template)
			for _, s := range id.Subjects {
				if !api.ValidPattern(s) || shape(s) != want {
					t.Fatalf("template %q with claim %q became %q", template, claim, s)
				}
			}
		}
	})
}

// shape keeps of a pattern or template only its dots and wildcards.
func shape(s string) string {
	var b strings.Builder
	inside := false // a placeholder's dots are a path, not tokens
	for _, c := range s {
		switch {
		case c == '{':
			inside = true
		case c == '}':
			inside = false
		case !inside && strings.ContainsRune(".*>", c):
			b.WriteRune(c)
		}
	}
	return b.String()
}

// signKey makes a token of any two texts with any secret.
func signKey(key []byte, header, payload string) string {
	signed := b64(header) + "." + b64(payload)
	h := hmac.New(sha256.New, key)
	h.Write([]byte(signed))
	return signed + "." + b64(string(h.Sum(nil)))
}
