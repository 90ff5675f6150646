package auth

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// MinSecret is the shortest HMAC secret in bytes that is taken: the size of the
// hash (RFC 7518 §3.2).
const MinSecret = 32

const (
	defaultTokenBytes  = 8 << 10
	defaultMaxLifetime = 24 * time.Hour
)

// Identity is who a client is, what it may see, and until when.
type Identity struct {
	User     string   // claim sub, always one valid NATS token
	Subjects []string // the default subscriptions, filled in, in template order, each once
	Issued   int64    // iat in Unix seconds, 0 when absent
	Expires  int64    // exp in Unix seconds; by the leeway it may already have passed
}

// Options are the rules for tokens.
type Options struct {
	Secret           []byte             // HMAC, at least [MinSecret] bytes; kept, not copied
	PublicKeys       []crypto.PublicKey // RSA, ECDSA, Ed25519, see [ParsePublicKeys]
	Algorithms       []string           // the only ones, see [Algorithms]; empty: each key's own
	Issuer, Audience string             // what iss must be and aud must hold; empty: not checked
	Leeway           time.Duration      // by which exp, nbf, iat and MaxLifetime may be missed
	MaxLifetime      time.Duration      // from now to exp; 0: 24 hours
	TokenBytes       int                // longest token; 0: 8 KiB
	Subscriptions    []string           // templates, see [CheckTemplate]
	Now              func() time.Time
}

// Verifier checks tokens. It is safe for concurrent use; only its public keys
// change.
type Verifier struct {
	secret      []byte
	algorithms  []string
	ring        atomic.Pointer[ring]
	issuer      string
	leeway      time.Duration
	maxLifetime time.Duration
	tokenBytes  int
	templates   []template
	now         func() time.Time
	validator   *jwt.Validator
}

// New makes a Verifier. The error is one sentence that says which option is
// wrong; it never holds the secret.
func New(o Options) (*Verifier, error) {
	if n := len(o.Secret); n < MinSecret && (n > 0 || len(o.PublicKeys) == 0) {
		return nil, fmt.Errorf("the secret has %d bytes, but must have at least %d", n, MinSecret)
	}
	if o.Leeway < 0 || o.MaxLifetime < 0 || o.TokenBytes < 0 {
		return nil, errors.New("leeway, longest lifetime and token size must not be negative")
	}
	v := &Verifier{
		secret:      o.Secret,
		algorithms:  o.Algorithms,
		issuer:      o.Issuer,
		leeway:      o.Leeway,
		maxLifetime: o.MaxLifetime,
		tokenBytes:  o.TokenBytes,
		now:         o.Now,
	}
	if v.maxLifetime == 0 {
		v.maxLifetime = defaultMaxLifetime
	}
	if v.tokenBytes == 0 {
		v.tokenBytes = defaultTokenBytes
	}
	if v.now == nil {
		v.now = time.Now
	}
	if err := v.SetPublicKeys(o.PublicKeys); err != nil {
		return nil, err
	}
	for _, s := range o.Subscriptions {
		t, err := compile(s)
		if err != nil {
			return nil, err
		}
		v.templates = append(v.templates, t)
	}
	rules := []jwt.ParserOption{
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(o.Leeway),
		jwt.WithTimeFunc(v.now),
	}
	if o.Issuer != "" {
		rules = append(rules, jwt.WithIssuer(o.Issuer))
	}
	if o.Audience != "" {
		rules = append(rules, jwt.WithAudience(o.Audience))
	}
	v.validator = jwt.NewValidator(rules...)
	return v, nil
}

// Verify turns a token into an identity. The error is always an *[Error].
//
// golang-jwt's own Parse is not used: it decodes the payload before it has
// checked the signature, ignores crit and b64, and takes duplicate keys. Its
// signing method and its claims validator are.
func (v *Verifier) Verify(token string) (Identity, error) {
	if len(token) > v.tokenBytes {
		return Identity{}, refuse(ReasonTooLarge)
	}
	signed, signature, ok := cutLast(token)
	if !ok {
		return Identity{}, refuse(ReasonMalformed)
	}
	header, payload, _ := strings.Cut(signed, ".")
	var space [1024]byte // enough for most tokens, so that decoding allocates nothing
	buf := space[:0]

	part, buf, ok := decode(buf, header)
	if !ok {
		return Identity{}, refuse(ReasonMalformed)
	}
	keys, err := v.checkHeader(part)
	if err != nil {
		return Identity{}, err
	}
	if part, buf, ok = decode(buf, signature); !ok {
		return Identity{}, refuse(ReasonMalformed)
	}
	if !keys.verifies(signed, part) {
		return Identity{}, refuse(ReasonSignature)
	}
	if part, _, ok = decode(buf, payload); !ok || !isJSON(part) {
		return Identity{}, refuse(ReasonMalformed)
	}
	return v.identify(part)
}

// identify makes the identity of a payload that is signed and valid JSON.
func (v *Verifier) identify(payload []byte) (Identity, error) {
	var c claims
	if !c.read(payload) {
		return Identity{}, refuse(ReasonMalformed)
	}
	if err := v.validate(&c); err != nil {
		return Identity{}, err
	}
	switch {
	case !c.subFound:
		return Identity{}, &Error{ReasonBadClaim, "The token has no claim sub."}
	case !c.subFits:
		return Identity{}, &Error{ReasonBadClaim, "The token's claim sub cannot be a user: " + tokenRule + "."}
	}
	subjects := make([]string, 0, len(v.templates))
	for i := range v.templates {
		var err *Error
		if subjects, err = v.templates[i].fill(subjects, c.sub, payload); err != nil {
			return Identity{}, err
		}
	}
	return Identity{User: c.sub, Subjects: subjects, Issued: c.iat.unix(), Expires: c.exp.unix()}, nil
}

func (v *Verifier) validate(c *claims) error {
	if !c.exp.set || c.exp.numeric.After(v.now().Add(v.maxLifetime+v.leeway)) {
		return refuse(ReasonLifetime)
	}
	err := v.validator.Validate(c)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(ReasonExpired)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refuse(ReasonNotYet)
	case v.issuer != "" && c.iss != v.issuer:
		return refuse(ReasonIssuer)
	default:
		return refuse(ReasonAudience)
	}
}

// SetPublicKeys replaces the public keys; tokens that are being verified may
// still meet the old ones. On an error the old ones stay.
func (v *Verifier) SetPublicKeys(keys []crypto.PublicKey) error {
	r, err := newRing(v.secret, keys, v.algorithms)
	if err != nil {
		return err
	}
	v.ring.Store(&r)
	return nil
}

// checkHeader returns what the token's signature is to be checked with.
func (v *Verifier) checkHeader(header []byte) (*suite, error) {
	if !isJSON(header) {
		return nil, refuse(ReasonMalformed)
	}
	var keys *suite
	extended := false
	err := visit(header, func(key, value []byte) {
		switch string(key) {
		case "alg":
			keys = (*v.ring.Load())[string(value)]
		case "crit", "b64":
			extended = true
		}
	})
	switch {
	case err != nil:
		return nil, refuse(ReasonMalformed)
	case extended:
		return nil, refuse(ReasonCrit)
	case keys == nil:
		return nil, refuse(ReasonAlgorithm)
	}
	return keys, nil
}

// cutLast splits header.payload.signature before the signature. It is false
// unless there are exactly three parts, none of them empty.
func cutLast(token string) (signed, signature string, ok bool) {
	first, last := strings.IndexByte(token, '.'), strings.LastIndexByte(token, '.')
	if strings.Count(token, ".") != 2 || first == 0 || last == first+1 || last == len(token)-1 {
		return "", "", false
	}
	return token[:last], token[last+1:], true
}

var base64url = base64.RawURLEncoding.Strict()

// decode appends the decoded part to buf and returns it, and the longer buf.
// There is one spelling for each value: padding, stray bits and the line breaks
// that Go's decoder skips are refused.
func decode(buf []byte, part string) (decoded, longer []byte, ok bool) {
	if strings.IndexByte(part, '\n') >= 0 || strings.IndexByte(part, '\r') >= 0 {
		return nil, buf, false
	}
	start := len(buf)
	longer, err := base64url.AppendDecode(buf, []byte(part))
	return longer[start:], longer, err == nil
}

// isJSON demands UTF-8 too, which json.Valid does not.
func isJSON(b []byte) bool { return utf8.Valid(b) && json.Valid(b) }
