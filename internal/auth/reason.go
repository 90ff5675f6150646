package auth

// Reason is why a token was refused: metric label and HTTP status in one value.
type Reason uint8

// The reasons, in the order in which a token is checked.
const (
	ReasonMalformed Reason = iota // not a JWT, or a registered claim of the wrong type
	ReasonTooLarge                // longer than Options.TokenBytes
	ReasonAlgorithm               // signed with something that no key is used with
	ReasonCrit                    // demands an extension (RFC 7515 §4.1.11, RFC 7797)
	ReasonKey                     // kid names a key that the issuer does not have
	ReasonSignature               // not signed with one of our keys
	ReasonLifetime                // no exp, or one further away than Options.MaxLifetime
	ReasonExpired                 // exp has passed
	ReasonNotYet                  // nbf or iat lies in the future
	ReasonIssuer                  // iss is not the one expected
	ReasonAudience                // aud does not hold the one expected
	ReasonRevoked                 // issued before its user was revoked, or without iat
	ReasonBadClaim                // sub, or a claim that a subject comes from, is missing or unfit
	reasonCount
)

var reasons = [reasonCount]struct{ label, message string }{
	ReasonMalformed: {"malformed", "The token is not a well-formed JWT."},
	ReasonTooLarge:  {"too_large", "The token is too large."},
	ReasonAlgorithm: {"algorithm", "The token is signed with an algorithm that is not accepted here."},
	ReasonCrit:      {"crit", "The token's header demands an extension that is not supported."},
	ReasonKey:       {"unknown_key", "The token is signed with a key that is not known here."},
	ReasonSignature: {"bad_signature", "The token's signature is not valid."},
	ReasonLifetime:  {"lifetime", "The token's exp is missing or too far in the future."},
	ReasonExpired:   {"expired", "The token has expired."},
	ReasonNotYet:    {"not_yet", "The token is not valid yet."},
	ReasonIssuer:    {"issuer", "The token comes from an issuer that is not accepted here."},
	ReasonAudience:  {"audience", "The token is meant for another audience."},
	ReasonRevoked:   {"revoked", "The token has been revoked."},
	ReasonBadClaim:  {"bad_claim", "A claim of the token cannot be part of a subject."},
}

// Reasons are all reasons, so that their counters can be made at zero.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// String is the metric label.
func (r Reason) String() string { return reasons[r].label }

// Forbidden reports whether the answer is 403 (the token is good, but grants
// nothing that can be used) instead of 401.
func (r Reason) Forbidden() bool { return r == ReasonBadClaim }

// Error is a refused token. It never holds the token or any of its values.
type Error struct {
	Reason  Reason
	Message string // one sentence for the client

	// Fetched is closed when the issuer's keys have been fetched anew: the
	// token may then be tried once more. nil: there is nothing to wait for.
	Fetched <-chan struct{}
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

func refuse(r Reason) *Error { return &Error{Reason: r, Message: reasons[r].message} }
