package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"hash"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Tokens are forged here from text, because no library would make most of them.

func b64(b string) string { return base64.RawURLEncoding.EncodeToString([]byte(b)) }

// forge signs a header and a payload, whatever they are.
func forge(header, payload string, sign func(signed string) string) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(sign(signed))
}

// hs signs with a secret.
func hs(secret string) func(string) string { return hsWith(sha256.New, secret) }

func hsWith(hash func() hash.Hash, secret string) func(string) string {
	return func(signed string) string {
		mac := hmac.New(hash, []byte(secret))
		mac.Write([]byte(signed))
		return string(mac.Sum(nil))
	}
}

func hs512(secret string) func(string) string { return hsWith(sha512.New, secret) }

// junk is no signature, but as long as one.
func junk(string) string {
	return strings.Repeat("\xff", 3) + canary + strings.Repeat("j", 26-len(canary))
}

func rs256(t testing.TB, key *rsa.PrivateKey) func(string) string {
	return func(signed string) string {
		sum := sha256.Sum256([]byte(signed))
		sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return string(sig)
	}
}

// es256 signs as JWS wants it: r and s, 32 bytes each.
func es256(t testing.TB, key *ecdsa.PrivateKey) func(string) string {
	return func(signed string) string {
		r, s := signES256(t, key, signed)
		return string(r[:]) + string(s[:])
	}
}

func signES256(t testing.TB, key *ecdsa.PrivateKey, signed string) (r, s [32]byte) {
	t.Helper()
	sum := sha256.Sum256([]byte(signed))
	a, b, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	a.FillBytes(r[:])
	b.FillBytes(s[:])
	return r, s
}

func newEC(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// publicPEM writes public keys to one file each, and returns the first's text.
func publicPEM(t testing.TB, keys ...any) (files []string, first string) {
	t.Helper()
	dir := t.TempDir()
	for i, key := range keys {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".pem")))
		write(t, files[i], text)
		if i == 0 {
			first = text
		}
	}
	return files, first
}

// jwk is a P-256 key as a key set has it.
func jwk(t testing.TB, key *ecdsa.PublicKey, kid string) string {
	t.Helper()
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":%q,"x":%q,"y":%q}`,
		kid, b64(string(point[1:33])), b64(string(point[33:])))
}

// canary stands in every token of the tests that look for leaks.
const canary = "CANARY7h1s51ngsN0where"

// payload is a good one, with changes: "name=JSON" sets a member, "name=" takes
// it out, "+text" stands behind all of them as it is.
func payload(changes ...string) string {
	now := time.Now().Unix()
	names := []string{"sub", "iat", "exp", "canary"}
	values := map[string]string{
		"sub": `"alice"`, "iat": fmt.Sprint(now), "exp": fmt.Sprint(now + 3600), "canary": fmt.Sprintf(`"%s-%d"`, canary, now),
	}
	behind := ""
	for _, c := range changes {
		if text, ok := strings.CutPrefix(c, "+"); ok {
			behind += "," + text
			continue
		}
		name, value, _ := strings.Cut(c, "=")
		if _, ok := values[name]; !ok {
			names = append(names, name)
		}
		values[name] = value
	}
	var members []string
	for _, name := range names {
		if values[name] != "" {
			members = append(members, fmt.Sprintf("%q:%s", name, values[name]))
		}
	}
	return "{" + strings.Join(members, ",") + behind + "}"
}

// unixIn is a claim's time from now.
func unixIn(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
