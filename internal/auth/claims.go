package auth

import (
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims are the registered claims, as golang-jwt's validator asks for them.
type claims struct {
	sub, iss      string
	aud           jwt.ClaimStrings
	exp, nbf, iat date
	subFound      bool
	subFits       bool
	subscribe     []byte // raw, nil when absent
}

type date struct {
	numeric jwt.NumericDate
	set     bool
}

func (d *date) ptr() *jwt.NumericDate {
	if !d.set {
		return nil
	}
	return &d.numeric
}

func (d *date) unix() int64 {
	if !d.set {
		return 0
	}
	return d.numeric.Unix()
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp.ptr(), nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.iat.ptr(), nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf.ptr(), nil }
func (c *claims) GetIssuer() (string, error)                   { return c.iss, nil }
func (c *claims) GetSubject() (string, error)                  { return c.sub, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.aud, nil }

// read takes the registered claims from the valid JSON of a payload. It is
// false for anything else than an object, a key that stands twice and a
// registered claim of the wrong type.
func (c *claims) read(payload []byte) bool {
	good := true
	err := visit(payload, func(key, value []byte) {
		ok := true
		switch string(key) {
		case "sub":
			c.subFound = true
			c.sub, c.subFits = scalar(value)
			c.subFits = c.subFits && fits(c.sub)
		case "subscribe":
			c.subscribe = value
		case "iss":
			c.iss, ok = text(value)
		case "aud":
			c.aud, ok = audience(value)
		case "exp":
			ok = c.exp.read(value)
		case "nbf":
			ok = c.nbf.read(value)
		case "iat":
			ok = c.iat.read(value)
		}
		good = good && ok
	})
	return err == nil && good
}

func (d *date) read(value []byte) bool {
	n, ok := seconds(value)
	d.numeric.Time = time.Unix(n, 0)
	d.set = ok
	return ok
}

// audience is one string or a list of them (RFC 7519 §4.1.3).
func audience(value []byte) (jwt.ClaimStrings, bool) {
	if one, ok := text(value); ok {
		return jwt.ClaimStrings{one}, true
	}
	if value[0] != '[' {
		return nil, false
	}
	var all jwt.ClaimStrings
	good := true
	elements(value, func(v []byte) bool {
		var one string
		one, good = text(v)
		all = append(all, one)
		return good
	})
	return all, good
}
