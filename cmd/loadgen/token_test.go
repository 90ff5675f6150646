//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestMint(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]func(signed string, signature []byte) bool{
		"HS256": func(signed string, signature []byte) bool {
			m := hmac.New(sha256.New, []byte("s"))
			m.Write([]byte(signed))
			return hmac.Equal(m.Sum(nil), signature)
		},
		"ES256": func(signed string, signature []byte) bool {
			sum := sha256.Sum256([]byte(signed))
			return len(signature) == 64 && ecdsa.Verify(&key.PublicKey, sum[:],
				new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		},
	}
	issued := time.Unix(1_767_355_200, 0)
	for _, s := range []signer{hs256("s"), es256(key)} {
		// Numbers that begin with a zero byte come once in 128 signatures.
		for range 300 {
			token, err := s.mint("alice", issued)
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.Split(token, ".")
			signature, err := base64.RawURLEncoding.DecodeString(parts[2])
			if err != nil || !good[s.alg](parts[0]+"."+parts[1], signature) {
				t.Fatalf("%s: the signature of %s is bad, %v", s.alg, token, err)
			}
			var header struct{ Alg string }
			var claims struct {
				Sub      string
				Iat, Exp int64
			}
			if !part(parts[0], &header) || !part(parts[1], &claims) || header.Alg != s.alg ||
				claims.Sub != "alice" || claims.Iat != issued.Unix() || claims.Exp != issued.Unix()+7200 {
				t.Fatalf("%s: %+v, %+v", s.alg, header, claims)
			}
		}
	}
}

func part(b64 string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(b64)
	return err == nil && json.Unmarshal(b, into) == nil
}
