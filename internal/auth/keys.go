package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithms are all names that Options.Algorithms may hold (RFC 7518 §3.1,
// RFC 8037 §3.1).
func Algorithms() []string {
	return []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA"}
}

// minRSA is the shortest RSA key in bits (RFC 7518 §3.3).
const minRSA = 2048

// suite is an algorithm and the keys that it is used with.
type suite struct {
	method jwt.SigningMethod
	keys   []any
}

// suites are suites by the algorithm's name as it stands in a token's header,
// quotes included.
type suites map[string]*suite

// ring is an issuer's keys in force. The key decides what it is used with,
// never the token: what is not in the ring is refused, so that no public key
// can be taken for a secret, and "none" is just another unknown name.
type ring struct {
	all     suites
	named   map[string]suites // by kid, where keys have names: fetched ones
	fetched int               // how many
}

// newRing binds each given key to its algorithms: its type's own, or those of
// named that fit its type. Each of named must fit a key.
func newRing(secret []byte, public []crypto.PublicKey, named []string) (*ring, error) {
	r := &ring{all: suites{}}
	if len(secret) > 0 {
		if err := r.all.add(secret, named); err != nil {
			return nil, err
		}
	}
	for _, k := range public {
		if err := r.all.add(k, named); err != nil {
			return nil, err
		}
	}
	for _, name := range named {
		if !slices.Contains(Algorithms(), name) {
			return nil, fmt.Errorf("the algorithm %q is unknown", name)
		}
		if r.all[`"`+name+`"`] == nil {
			return nil, fmt.Errorf("the algorithm %s fits none of the keys", name)
		}
	}
	return r, nil
}

func (all suites) add(key any, named []string) error {
	own, possible, kind, err := uses(key)
	if err != nil {
		return err
	}
	names := []string{own}
	if len(named) > 0 {
		names = slices.DeleteFunc(slices.Clone(possible), func(name string) bool { return !slices.Contains(named, name) })
		if len(names) == 0 {
			return fmt.Errorf("none of the algorithms %v fits the %s: it can be used with %v", named, kind, possible)
		}
	}
	for _, name := range names {
		method := jwt.GetSigningMethod(name)
		if h, ok := method.(*jwt.SigningMethodHMAC); ok && len(key.([]byte)) < h.Hash.Size() {
			return fmt.Errorf("the %s has %d bytes, but %s must have at least %d", kind, len(key.([]byte)), name, h.Hash.Size())
		}
		s := all[`"`+name+`"`]
		if s == nil {
			s = &suite{method: method}
			all[`"`+name+`"`] = s
		}
		s.keys = append(s.keys, key)
	}
	return nil
}

// uses are the algorithm that a key is used with unless others are named, and
// all that it could be used with.
func uses(key any) (own string, possible []string, kind string, err error) {
	switch k := key.(type) {
	case []byte:
		return "HS256", []string{"HS256", "HS384", "HS512"}, "secret", nil
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return "", nil, "", fmt.Errorf("an RSA key has %d bits, but must have at least %d", k.N.BitLen(), minRSA)
		}
		return "RS256", []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, "RSA key", nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return "ES256", []string{"ES256"}, "P-256 key", nil
		case elliptic.P384():
			return "ES384", []string{"ES384"}, "P-384 key", nil
		case elliptic.P521():
			return "ES512", []string{"ES512"}, "P-521 key", nil
		}
		return "", nil, "", fmt.Errorf("the curve %s is not used for tokens: P-256, P-384 or P-521 are", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return "EdDSA", []string{"EdDSA"}, "Ed25519 key", nil
	}
	return "", nil, "", fmt.Errorf("a key is of a kind that tokens are not signed with (%T): RSA, ECDSA and Ed25519 are", key)
}

// verifies reports whether one of the suite's keys has made the signature.
func (s *suite) verifies(signed string, signature []byte) bool {
	for _, k := range s.keys {
		if s.method.Verify(signed, signature, k) == nil {
			return true
		}
	}
	return false
}

// ParsePublicKeys reads the public keys of a PEM file: "PUBLIC KEY", "RSA
// PUBLIC KEY" or "CERTIFICATE", of which only the key counts. A private key is
// an error: a gateway has no use for one.
func ParsePublicKeys(file []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for {
		block, rest := pem.Decode(file)
		if block == nil {
			break
		}
		file = rest
		key, err := publicKey(block)
		if err != nil {
			return nil, err
		}
		if _, _, _, err := uses(key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no PEM block")
	}
	return keys, nil
}

func publicKey(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("holds a public key that cannot be read")
		}
		return key, nil
	case "RSA PUBLIC KEY":
		key, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("holds an RSA public key that cannot be read")
		}
		return key, nil
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("holds a certificate that cannot be read")
		}
		return certificate.PublicKey, nil
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("holds a private key: the gateway needs only the public one")
	}
	return nil, fmt.Errorf("holds a %q, which is no public key", block.Type)
}
