package auth

import (
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// BenchmarkVerify verifies one token again and again; with a cache only its
// first time costs a signature.
func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"secret", "RSA", "P-256", "Ed25519"} {
		for _, cached := range []bool{false, true} {
			if cached && kind == "secret" {
				continue // is not kept
			}
			b.Run(fmt.Sprintf("%s/cache=%t", fitting[kind][0], cached), func(b *testing.B) {
				v := newVerifier(b, keyed(kind), caching(cached))
				verifyInTurn(b, v, distinctTokens(b, kind, 1))
			})
		}
	}
}

// BenchmarkVerifyDistinct verifies 10,000 tokens in turn, as when all clients
// come back at once.
func BenchmarkVerifyDistinct(b *testing.B) {
	tokens := distinctTokens(b, "P-256", 10_000)
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("ES256/cache=%t", cached), func(b *testing.B) {
			verifyInTurn(b, newVerifier(b, keyed("P-256"), caching(cached)), tokens)
		})
	}
}

func BenchmarkVerifyBadSignature(b *testing.B) {
	v := newVerifier(b)
	token := mint(b, map[string]any{"sub": "alice", "exp": in(time.Hour), "iat": in(0)})
	token = token[:len(token)-4] + "AAAA"
	for b.Loop() {
		if _, err := v.Verify(token); err == nil {
			b.Fatal("accepted")
		}
	}
	b.ReportAllocs()
}

// caching gives a verifier the cache that a gateway has unless told otherwise.
func caching(on bool) func(*Options) {
	return func(o *Options) {
		if on {
			o.CacheBytes = 16 << 20
		}
	}
}

func distinctTokens(b *testing.B, kind string, n int) []string {
	b.Helper()
	var key any = longSecret
	if kind != "secret" {
		key = testKeys()[kind][0]
	}
	method := jwt.GetSigningMethod(fitting[kind][0])
	tokens := make([]string, n)
	for i := range tokens {
		claims := jwt.MapClaims{"sub": fmt.Sprintf("user%05d", i), "exp": in(time.Hour), "iat": in(0)}
		var err error
		if tokens[i], err = jwt.NewWithClaims(method, claims).SignedString(key); err != nil {
			b.Fatal(err)
		}
	}
	return tokens
}

// verifyInTurn verifies all tokens once before the clock starts, and then one
// after the other.
func verifyInTurn(b *testing.B, v *Verifier, tokens []string) {
	b.Helper()
	for _, token := range tokens {
		if _, err := v.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := v.Verify(tokens[i%len(tokens)]); err != nil {
			b.Fatal(err)
		}
	}
}
