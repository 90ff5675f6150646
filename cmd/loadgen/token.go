//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"
)

// signer signs tokens.
type signer struct {
	alg  string
	sign func(signed []byte) ([]byte, error)
}

func hs256(secret string) signer {
	return signer{"HS256", func(signed []byte) ([]byte, error) {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write(signed)
		return m.Sum(nil), nil
	}}
}

func es256(key *ecdsa.PrivateKey) signer {
	return signer{"ES256", func(signed []byte) ([]byte, error) {
		sum := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			return nil, err
		}
		var both [64]byte // RFC 7518 §3.4: both numbers at full length
		r.FillBytes(both[:32])
		s.FillBytes(both[32:])
		return both[:], nil
	}}
}

// mint makes a token that lives for two hours.
func (s signer) mint(user string, issued time.Time) (string, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64(fmt.Appendf(nil, `{"alg":%q,"typ":"JWT"}`, s.alg)) + "." +
		b64(fmt.Appendf(nil, `{"exp":%d,"iat":%d,"sub":%q}`, issued.Add(2*time.Hour).Unix(), issued.Unix(), user))
	signature, err := s.sign([]byte(signed))
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return signed + "." + b64(signature), nil
}

// mintAll makes the tokens of the first n users.
func (s signer) mintAll(t *target, n int) ([]string, error) {
	tokens := make([]string, n)
	for i := range tokens {
		var err error
		if tokens[i], err = s.mint(t.userName(i), time.Now()); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// token is the i-th user's: one that was made before, or one with the secret.
func (t *target) token(i int, issued time.Time) string {
	if t.tokens != nil {
		return t.tokens[i]
	}
	token, _ := hs256(t.Secret).mint(t.userName(i), issued) // an HMAC cannot fail
	return token
}

// userName is the name of the i-th user.
func (t *target) userName(i int) string { return fmt.Sprintf("%s%07d", t.Users, i) }

// head is the i-th user's opening handshake.
func (t *target) head(i int, now time.Time) []byte {
	path, auth := "/v1/ws"+t.query, "Authorization: Bearer "+t.token(i, now)+"\r\n"
	switch t.Protocol {
	case "natsws":
		path, auth = "/", ""
	case "sse":
		return []byte("GET /v1/events" + t.query + " HTTP/1.1\r\nHost: " + t.Addr + "\r\nAccept: text/event-stream\r\n" + auth + "\r\n")
	}
	if t.deflate {
		auth += "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
	}
	return []byte("GET " + path + " HTTP/1.1\r\nHost: " + t.Addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + auth + "\r\n")
}
