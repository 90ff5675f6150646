package auth

import (
	"testing"
	"time"
)

func BenchmarkVerify(b *testing.B) {
	v := newVerifier(b)
	token := mint(b, map[string]any{"sub": "alice", "exp": in(time.Hour), "iat": in(0)})
	for b.Loop() {
		if _, err := v.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
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
