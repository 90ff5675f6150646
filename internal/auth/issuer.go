package auth

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/golang-jwt/jwt/v5"

	"pushgate/api"
)

// Issuer is one who makes tokens: its keys, and what its tokens may reach.
type Issuer struct {
	// Name stands before the user of each of its tokens, "name/sub", and
	// where templates say {issuer}. Of one issuer alone it may be empty: its
	// users are plain subs.
	Name string

	Issuer, Audience string             // what iss must be and aud must hold; empty: not checked
	Secret           []byte             // HMAC, at least [MinSecret] bytes; kept, not copied
	PublicKeys       []crypto.PublicKey // RSA, ECDSA, Ed25519, see [ParsePublicKeys]
	JWKSURL          string             // where its public keys are published, instead of both
	Algorithms       []string           // the only ones, see [Algorithms]; empty: each key's own
	Subscriptions    []string           // templates, see [CheckTemplate]

	// GrantCeiling are the patterns that the claim subscribe cannot go
	// beyond; they may hold {issuer}. Of one issuer alone, nil is no ceiling;
	// of several, it lets the claim grant nothing.
	GrantCeiling []string
}

// issuer is an Issuer in use. Only its keys change.
type issuer struct {
	name, iss string
	templates []template
	ceiling   []string
	bounded   bool

	secret     []byte
	quick      bool // it has nothing but its secret
	algorithms []string
	ring       atomic.Pointer[ring]
	source     *source // nil: its keys are given
	validator  *jwt.Validator
}

// maxIssuerName leaves room for the longest sub behind it.
const maxIssuerName = 64

// CheckIssuerName reports what is wrong with an issuer's name.
func CheckIssuerName(name string) error {
	if !fits(name) || len(name) > maxIssuerName || strings.ContainsAny(name, "/{}") {
		return fmt.Errorf("the issuer's name %q must be one token of 1 to %d bytes without dot, wildcard, slash, brace, space or control character", name, maxIssuerName)
	}
	return nil
}

// newIssuer checks what concerns one issuer. alone says that there is no other.
func newIssuer(o Issuer, alone bool) (*issuer, error) {
	i := &issuer{
		name: o.Name, iss: o.Issuer, secret: o.Secret, algorithms: o.Algorithms,
		bounded: !alone || o.GrantCeiling != nil,
		quick:   len(o.PublicKeys) == 0 && o.JWKSURL == "",
	}
	if o.Name != "" || !alone {
		if err := CheckIssuerName(o.Name); err != nil {
			return nil, err
		}
	}
	if !alone && o.Issuer == "" {
		return nil, errors.New("with several issuers each needs its own iss: that is how a token finds its keys")
	}
	given := len(o.Secret) > 0 || len(o.PublicKeys) > 0
	switch {
	case given && o.JWKSURL != "":
		return nil, errors.New("keys are given and a JWKS URL as well: keep one")
	case !given && o.JWKSURL == "":
		return nil, errors.New("there is no key to verify tokens with")
	}
	if n := len(o.Secret); n > 0 && n < MinSecret {
		return nil, fmt.Errorf("the secret has %d bytes, but must have at least %d", n, MinSecret)
	}
	for _, s := range o.Subscriptions {
		t, err := compile(s, o.Name)
		if err != nil {
			return nil, err
		}
		i.templates = append(i.templates, t)
	}
	for _, p := range o.GrantCeiling {
		p = Expand(p, o.Name)
		if !api.ValidPattern(p) || strings.ContainsAny(p, "{}") {
			return nil, fmt.Errorf("the grant ceiling %q is not a subject pattern", p)
		}
		i.ceiling = append(i.ceiling, p)
	}
	if o.JWKSURL != "" {
		return i, CheckJWKSURL(o.JWKSURL)
	}
	r, err := newRing(o.Secret, o.PublicKeys, o.Algorithms)
	if err != nil {
		return nil, err
	}
	i.ring.Store(r)
	return i, nil
}

// user is the name that all of the gateway knows the issuer's sub by. No name
// holds a slash: two issuers cannot make the same user.
func (i *issuer) user(sub string) string {
	if i.name == "" {
		return sub
	}
	return i.name + "/" + sub
}

// checkApart refuses issuers whose tokens could meet on some subject, whatever
// their claims say.
func checkApart(issuers []*issuer) error {
	for n, a := range issuers {
		for _, b := range issuers[:n] {
			if a.name == b.name {
				return fmt.Errorf("two issuers have the name %q", a.name)
			}
			if a.iss == b.iss {
				return fmt.Errorf("the issuers %s and %s have the same iss %q", b.name, a.name, a.iss)
			}
			for _, p := range a.reaches() {
				for _, q := range b.reaches() {
					if api.Overlap(p, q) {
						return fmt.Errorf("the issuers %s and %s could meet on a subject: %s and %s overlap; begin their subscriptions and grant ceilings with {issuer}, or with roots of their own", b.name, a.name, q, p)
					}
				}
			}
		}
	}
	return nil
}

// reaches are patterns that cover all that the issuer's tokens can see.
func (i *issuer) reaches() []string {
	all := append([]string(nil), i.ceiling...)
	for _, t := range i.templates {
		all = append(all, t.reach)
	}
	return all
}
