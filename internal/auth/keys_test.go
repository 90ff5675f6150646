package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// testKeys are one private key of each kind, and another of the same kind.
var testKeys = sync.OnceValue(func() map[string][2]crypto.Signer {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	rsaKey := func() crypto.Signer { k, err := rsa.GenerateKey(rand.Reader, 2048); return must(k, err) }
	ecKey := func(c elliptic.Curve) crypto.Signer { k, err := ecdsa.GenerateKey(c, rand.Reader); return must(k, err) }
	edKey := func() crypto.Signer { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) }
	return map[string][2]crypto.Signer{
		"RSA":     {rsaKey(), rsaKey()},
		"P-256":   {ecKey(elliptic.P256()), ecKey(elliptic.P256())},
		"P-384":   {ecKey(elliptic.P384()), ecKey(elliptic.P384())},
		"P-521":   {ecKey(elliptic.P521()), ecKey(elliptic.P521())},
		"Ed25519": {edKey(), edKey()},
	}
})

// fitting are the algorithms of each kind of key; the first is its own.
var fitting = map[string][]string{
	"secret":  {"HS256", "HS384", "HS512"},
	"RSA":     {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
	"P-256":   {"ES256"},
	"P-384":   {"ES384"},
	"P-521":   {"ES512"},
	"Ed25519": {"EdDSA"},
}

var longSecret = []byte(strings.Repeat("0123456789abcdef", 4))

// signWith makes a good token for alice; which is 0 or 1.
func signWith(t *testing.T, kind, algorithm string, which int) string {
	t.Helper()
	var key any = longSecret
	if which == 1 {
		key = bytes.ToUpper(longSecret)
	}
	if kind != "secret" {
		key = testKeys()[kind][which]
	}
	claims := jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)}
	token, err := jwt.NewWithClaims(jwt.GetSigningMethod(algorithm), claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func keyed(kind string, algorithms ...string) func(*Options) {
	return func(o *Options) {
		i := &o.Issuers[0]
		i.Algorithms = algorithms
		if i.Secret = nil; kind == "secret" {
			i.Secret = longSecret
			return
		}
		i.PublicKeys = []crypto.PublicKey{testKeys()[kind][0].Public()}
	}
}

func reasonOf(v *Verifier, token string) string {
	_, err := v.Verify(token)
	if err == nil {
		return "good"
	}
	return err.(*Error).Reason.String()
}

// Every token is tried with every kind of key: it is good only with the key
// that made it and an algorithm that this key is used with.
func TestKeyDecidesAlgorithm(t *testing.T) {
	for kind := range fitting {
		byDefault := newVerifier(t, keyed(kind))
		for signer, algorithms := range fitting {
			for i, algorithm := range algorithms {
				want := "algorithm"
				if kind == signer && i == 0 {
					want = "good"
				}
				if got := reasonOf(byDefault, signWith(t, signer, algorithm, 0)); got != want {
					t.Errorf("%s of %s with a %s: %s, want %s", algorithm, signer, kind, got, want)
				}
			}
		}
		for _, named := range fitting[kind] {
			v := newVerifier(t, keyed(kind, named))
			for _, algorithm := range fitting[kind] {
				want := "algorithm"
				if algorithm == named {
					want = "good"
				}
				if got := reasonOf(v, signWith(t, kind, algorithm, 0)); got != want {
					t.Errorf("%s with a %s for %s: %s, want %s", algorithm, kind, named, got, want)
				}
			}
			if got := reasonOf(v, signWith(t, kind, named, 1)); got != "bad_signature" {
				t.Errorf("%s of a foreign %s: %s", named, kind, got)
			}
		}
	}
}

// A token that is signed with a public key as if it were a secret is the
// classic forgery.
func TestPublicKeyIsNoSecret(t *testing.T) {
	der, err := x509.MarshalPKIXPublicKey(testKeys()["RSA"][0].Public())
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, keyed("RSA"))
	for _, secret := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})} {
		token, err := Mint(secret, map[string]any{"sub": "alice", "exp": in(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if got := reasonOf(v, token); got != "algorithm" {
			t.Errorf("got %s", got)
		}
	}
}

func TestSeveralKeysAndTheirChange(t *testing.T) {
	keys := testKeys()
	v := newVerifier(t, func(o *Options) {
		o.Issuers[0].PublicKeys = []crypto.PublicKey{keys["P-256"][0].Public(), keys["P-256"][1].Public(), keys["Ed25519"][0].Public()}
	})
	old := signWith(t, "P-256", "ES256", 0)
	for _, token := range []string{old, signWith(t, "P-256", "ES256", 1), signWith(t, "Ed25519", "EdDSA", 0),
		mint(t, map[string]any{"sub": "alice", "exp": in(time.Hour)})} {
		if got := reasonOf(v, token); got != "good" {
			t.Errorf("one of several keys: %s", got)
		}
	}
	if err := v.SetPublicKeys(0, []crypto.PublicKey{keys["P-256"][1].Public()}); err != nil {
		t.Fatal(err)
	}
	if got := reasonOf(v, old); got != "bad_signature" {
		t.Errorf("a key that was taken away: %s", got)
	}
	if err := v.SetPublicKeys(0, []crypto.PublicKey{"no key"}); err == nil {
		t.Error("a text is taken for a key")
	}
	if got := reasonOf(v, signWith(t, "P-256", "ES256", 1)); got != "good" {
		t.Errorf("after a change that failed: %s", got)
	}
}

func TestKeysRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := func(k ...crypto.PublicKey) Issuer { return Issuer{PublicKeys: k} }
	rsaKey := testKeys()["RSA"][0].Public()
	for name, c := range map[string]struct {
		i    Issuer
		want string
	}{
		"no key":            {Issuer{}, "there is no key"},
		"short RSA":         {public(&small.PublicKey), "an RSA key has 1024 bits, but must have at least 2048"},
		"P-224":             {public(&p224.PublicKey), "the curve P-224 is not used for tokens"},
		"X25519":            {public(x25519.PublicKey()), "of a kind that tokens are not signed with"},
		"unknown algorithm": {Issuer{Secret: secret, Algorithms: []string{"HS256", "none"}}, `the algorithm "none" is unknown`},
		"nobody's":          {Issuer{Secret: secret, Algorithms: []string{"HS256", "ES256"}}, "the algorithm ES256 fits none of the keys"},
		"a key without":     {Issuer{Secret: secret, PublicKeys: []crypto.PublicKey{rsaKey}, Algorithms: []string{"HS256"}}, "none of the algorithms [HS256] fits the RSA key"},
		"secret for HS512":  {Issuer{Secret: secret, Algorithms: []string{"HS512"}}, "the secret has 32 bytes, but HS512 must have at least 64"},
	} {
		if _, err := New(Options{Issuers: []Issuer{c.i}}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestParseKeys(t *testing.T) {
	block := func(kind string, der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	pkix := func(k crypto.Signer) []byte {
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		return block("PUBLIC KEY", der, err)
	}
	pkcs8 := func(k crypto.Signer) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		return block("PRIVATE KEY", der, err)
	}
	rsaKey := testKeys()["RSA"][0].(*rsa.PrivateKey)
	ecKey := testKeys()["P-256"][0].(*ecdsa.PrivateKey)
	ecDER, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for kind, pair := range testKeys() {
		keys, err := ParsePublicKeys(pkix(pair[0]))
		if err != nil || len(keys) != 1 || !pair[0].Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(keys[0]) {
			t.Errorf("%s: %v, %v", kind, keys, err)
		}
		all = append(append(all, "a line between\n"...), pkix(pair[1])...)
		signer, err := ParsePrivateKey(pkcs8(pair[0]))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		token, err := MintWithKey(signer, map[string]any{"sub": "alice", "exp": in(time.Hour)})
		if err != nil || reasonOf(newVerifier(t, keyed(kind)), token) != "good" {
			t.Errorf("%s: a minted token is not taken: %v", kind, err)
		}
	}
	if keys, err := ParsePublicKeys(all); err != nil || len(keys) != len(testKeys()) {
		t.Errorf("several in one file: %d, %v", len(keys), err)
	}
	if keys, err := ParsePublicKeys(block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey), nil)); err != nil || len(keys) != 1 {
		t.Errorf("PKCS 1: %v", err)
	}
	for name, file := range map[string][]byte{
		"PKCS 1": block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil),
		"SEC 1":  block("EC PRIVATE KEY", ecDER, nil),
	} {
		if _, err := ParsePrivateKey(file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ParsePublicKeys(file); err == nil || !strings.Contains(err.Error(), "private key: the gateway needs only the public one") {
			t.Errorf("%s as public: %v", name, err)
		}
	}
	for name, file := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "no key": block("PUBLIC KEY", []byte("x"), nil),
		"no PKCS 1": block("RSA PUBLIC KEY", []byte("x"), nil), "no certificate": block("CERTIFICATE", []byte("x"), nil),
		"another": block("DH PARAMETERS", []byte("x"), nil),
	} {
		if _, err := ParsePublicKeys(file); err == nil {
			t.Errorf("%s is taken for a public key", name)
		}
		if _, err := ParsePrivateKey(file); err == nil {
			t.Errorf("%s is taken for a private key", name)
		}
	}
	if _, err := ParsePrivateKey(block("PRIVATE KEY", []byte("x"), nil)); err == nil {
		t.Error("a broken private key is taken")
	}
}
