package auth

import (
	"cmp"
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
	defaultSubjects    = 64
)

// Identity is who a client is, what it may see, and until when.
type Identity struct {
	User     string   // claim sub, always one valid NATS token; of a named issuer "name/sub"
	Subjects []string // the default subscriptions, filled in, in template order, each once
	Grants   *Grants  // what else the client may subscribe to; nil: nothing
	Issued   int64    // iat in Unix seconds, 0 when absent
	Expires  int64    // exp in Unix seconds; by the leeway it may already have passed
}

// Options are the rules for tokens.
type Options struct {
	Issuers     []Issuer      // at least one
	Leeway      time.Duration // by which exp, nbf, iat and MaxLifetime may be missed
	MaxLifetime time.Duration // from now, and from iat, to exp; 0: 24 hours
	TokenBytes  int           // longest token; 0: 8 KiB
	MaxSubjects int           // default subscriptions of one identity; 0: 64
	CacheBytes  int           // for the hashes of verified tokens, which those of HMACs are not; 0: none are kept
	Now         func() time.Time

	// JWKSInterval is how long after a fetch for an unknown kid no other is
	// made (0: 10 s), JWKSRefresh how often keys are fetched anyhow (0: 5
	// minutes).
	JWKSInterval, JWKSRefresh time.Duration
	// Notice is told what became of fetches; nil: nobody is. It is called by
	// one goroutine an issuer.
	Notice func(KeyNotice)
}

// Verifier checks tokens. It is safe for concurrent use; only its issuers'
// keys, and what is revoked, change.
type Verifier struct {
	issuers []*issuer
	byISS   map[string]*issuer // nil with one issuer

	leeway      time.Duration
	maxLifetime time.Duration
	tokenBytes  int
	maxSubjects int
	cacheBytes  int
	now         func() time.Time

	// The cache is replaced after the keys: who has found the new one checks
	// with the new keys, and what the old keys let in goes with the old one.
	cache   atomic.Pointer[cache]
	lookups cacheStats
	revoked revocations
}

// New makes a Verifier. Where keys are to be fetched, nothing is yet: see
// [Verifier.FetchKeys]. The error is one sentence that says which option is
// wrong; it never holds a secret.
func New(o Options) (*Verifier, error) {
	if o.Leeway < 0 || o.MaxLifetime < 0 || o.TokenBytes < 0 || o.MaxSubjects < 0 || o.CacheBytes < 0 {
		return nil, errors.New("leeway, longest lifetime and sizes must not be negative")
	}
	if len(o.Issuers) == 0 {
		return nil, errors.New("there is no issuer whose tokens could be verified")
	}
	v := &Verifier{
		leeway:      o.Leeway,
		maxLifetime: cmp.Or(o.MaxLifetime, defaultMaxLifetime),
		tokenBytes:  cmp.Or(o.TokenBytes, defaultTokenBytes),
		maxSubjects: cmp.Or(o.MaxSubjects, defaultSubjects),
		cacheBytes:  o.CacheBytes,
		now:         o.Now,
	}
	if v.now == nil {
		v.now = time.Now
	}
	// The leeway counts once for exp and once for iat.
	v.revoked.lifetime, v.revoked.now = v.maxLifetime+2*v.leeway, v.now
	v.cache.Store(newCache(v.cacheBytes))
	for _, one := range o.Issuers {
		i, err := newIssuer(one, len(o.Issuers) == 1)
		if err != nil && one.Name != "" {
			err = fmt.Errorf("issuer %s: %w", one.Name, err)
		}
		if err != nil {
			return nil, err
		}
		i.validator = newValidator(one, o.Leeway, v.now)
		if one.JWKSURL != "" {
			i.source = v.newSource(i, one.JWKSURL, &o)
		}
		v.issuers = append(v.issuers, i)
	}
	if len(v.issuers) > 1 {
		if err := checkApart(v.issuers); err != nil {
			return nil, err
		}
		v.byISS = map[string]*issuer{}
		for _, i := range v.issuers {
			v.byISS[i.iss] = i
		}
	}
	return v, nil
}

func newValidator(o Issuer, leeway time.Duration, now func() time.Time) *jwt.Validator {
	rules := []jwt.ParserOption{
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(now),
	}
	if o.Issuer != "" {
		rules = append(rules, jwt.WithIssuer(o.Issuer))
	}
	if o.Audience != "" {
		rules = append(rules, jwt.WithAudience(o.Audience))
	}
	return jwt.NewValidator(rules...)
}

// Verify turns a token into an identity. The error is an *[Error], or
// [ErrNoKeys] while the issuer's keys have never been there.
//
// golang-jwt's own Parse is not used: it decodes the payload before it has
// checked the signature, ignores crit and b64, and takes duplicate keys. Its
// signing methods and its claims validator are. Of several issuers iss is
// looked at first, because it says whose keys count, and nothing else.
func (v *Verifier) Verify(token string) (Identity, error) { return v.verify(token, true) }

// verify leaves what takes its time to who is patient.
func (v *Verifier) verify(token string, patient bool) (Identity, error) {
	if len(token) > v.tokenBytes {
		return Identity{}, refuse(ReasonTooLarge)
	}
	signed, _, ok := cutLast(token)
	if !ok {
		return Identity{}, refuse(ReasonMalformed)
	}
	_, body, _ := strings.Cut(signed, ".")
	var space [1024]byte // enough for most tokens, so that decoding allocates nothing
	payload, buf, ok := decode(space[:0], body)
	if !ok {
		return Identity{}, refuse(ReasonMalformed)
	}
	i := v.issuers[0]
	if len(v.issuers) > 1 {
		var err *Error
		if i, err = v.issuerOf(payload); err != nil {
			return Identity{}, err
		}
	}
	if err := v.checkSignature(i, buf, token, patient); err != nil {
		return Identity{}, err
	}
	if !isJSON(payload) {
		return Identity{}, refuse(ReasonMalformed)
	}
	return v.identify(i, payload)
}

// issuerOf finds the issuer that a payload, which nobody has vouched for yet,
// names.
func (v *Verifier) issuerOf(payload []byte) (*issuer, *Error) {
	if !isJSON(payload) {
		return nil, refuse(ReasonMalformed)
	}
	var i *issuer
	err := visit(payload, func(key, value []byte) {
		if string(key) == "iss" {
			iss, _ := text(value)
			i = v.byISS[iss]
		}
	})
	switch {
	case err != nil:
		return nil, refuse(ReasonMalformed)
	case i == nil:
		return nil, refuse(ReasonIssuer)
	}
	return i, nil
}

// checkSignature checks header and signature with the issuer's keys.
func (i *issuer) checkSignature(buf []byte, token string) error {
	signed, signature, _ := cutLast(token)
	header, _, _ := strings.Cut(signed, ".")
	part, buf, ok := decode(buf, header)
	if !ok {
		return refuse(ReasonMalformed)
	}
	keys, err := i.checkHeader(part)
	if err != nil {
		return err
	}
	if part, _, ok = decode(buf, signature); !ok {
		return refuse(ReasonMalformed)
	}
	if !keys.verifies(signed, part) {
		return refuse(ReasonSignature)
	}
	return nil
}

// identify makes the identity of a payload that is signed and valid JSON.
func (v *Verifier) identify(i *issuer, payload []byte) (Identity, error) {
	var c claims
	if !c.read(payload) {
		return Identity{}, refuse(ReasonMalformed)
	}
	if err := v.validate(i, &c); err != nil {
		return Identity{}, err
	}
	switch {
	case !c.subFound:
		return Identity{}, &Error{Reason: ReasonBadClaim, Message: "The token has no claim sub."}
	case !c.subFits:
		return Identity{}, &Error{Reason: ReasonBadClaim, Message: "The token's claim sub cannot be a user: " + tokenRule + "."}
	}
	id := Identity{User: i.user(c.sub), Issued: c.iat.unix(), Expires: c.exp.unix()}
	if v.Revoked(id.User, id.Issued) {
		return Identity{}, refuse(ReasonRevoked)
	}
	var err *Error
	id.Subjects = make([]string, 0, len(i.templates))
	for t := range i.templates {
		if id.Subjects, err = i.templates[t].fill(id.Subjects, v.maxSubjects, c.sub, payload); err != nil {
			return Identity{}, err
		}
	}
	if id.Grants, err = i.readGrants(c.subscribe); err != nil {
		return Identity{}, err
	}
	return id, nil
}

func (v *Verifier) validate(i *issuer, c *claims) error {
	switch {
	case !c.exp.set, c.exp.numeric.After(v.now().Add(v.maxLifetime + v.leeway)):
		return refuse(ReasonLifetime)
	case c.iat.set && c.exp.numeric.Sub(c.iat.numeric.Time) > v.maxLifetime:
		// It would outlive what is remembered of a revocation.
		return refuse(ReasonLifetime)
	}
	err := i.validator.Validate(c)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(ReasonExpired)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refuse(ReasonNotYet)
	case i.iss != "" && c.iss != i.iss:
		return refuse(ReasonIssuer)
	default:
		return refuse(ReasonAudience)
	}
}

// SetPublicKeys replaces the public keys of the issuer that was given at this
// place; tokens that are being verified may still meet the old ones. On an
// error the old ones stay.
func (v *Verifier) SetPublicKeys(place int, keys []crypto.PublicKey) error {
	i := v.issuers[place]
	r, err := newRing(i.secret, keys, i.algorithms)
	if err != nil {
		return err
	}
	v.setRing(i, r)
	return nil
}

func (v *Verifier) setRing(i *issuer, r *ring) {
	i.ring.Store(r)
	v.cache.Store(newCache(v.cacheBytes))
}

// checkHeader returns what the token's signature is to be checked with.
func (i *issuer) checkHeader(header []byte) (*suite, error) {
	if !isJSON(header) {
		return nil, refuse(ReasonMalformed)
	}
	var alg []byte
	var kid string
	extended, named, fit := false, false, true
	err := visit(header, func(key, value []byte) {
		switch string(key) {
		case "alg":
			alg = value
		case "kid":
			named = true
			kid, fit = keyID(value)
		case "crit", "b64":
			extended = true
		}
	})
	switch {
	case err != nil, !fit:
		return nil, refuse(ReasonMalformed)
	case extended:
		return nil, refuse(ReasonCrit)
	}
	r := i.ring.Load()
	if r == nil {
		return nil, ErrNoKeys
	}
	among := r.all
	if named && r.named != nil {
		if among = r.named[kid]; among == nil {
			refused := refuse(ReasonKey)
			refused.Fetched = i.source.want()
			return nil, refused
		}
	}
	if keys := among[string(alg)]; keys != nil {
		return keys, nil
	}
	return nil, refuse(ReasonAlgorithm)
}

// maxKeyID bounds the name of a key.
const maxKeyID = 128

// keyID reads a kid: printable ASCII, of bounded length. It is looked up, and
// nothing else is ever done with it.
func keyID(raw []byte) (string, bool) {
	kid, ok := text(raw)
	if !ok || kid == "" || len(kid) > maxKeyID {
		return "", false
	}
	for _, c := range []byte(kid) {
		if c < ' ' || c > '~' {
			return "", false
		}
	}
	return kid, true
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
