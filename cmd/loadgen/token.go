//go:build linux

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"
)

// mint makes an HS256 token. It is done before any clock starts.
func mint(secret, user string, now time.Time) string {
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		b64(fmt.Appendf(nil, `{"exp":%d,"iat":%d,"sub":%q}`, now.Add(2*time.Hour).Unix(), now.Unix(), user))
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(signed))
	return signed + "." + b64(m.Sum(nil))
}

// userName is the name of the i-th user.
func (t *target) userName(i int) string { return fmt.Sprintf("%s%07d", t.Users, i) }

// head is the i-th user's opening handshake.
func (t *target) head(i int, now time.Time) []byte {
	path, auth := "/v1/ws", "Authorization: Bearer "+mint(t.Secret, t.userName(i), now)+"\r\n"
	if t.Protocol == "natsws" {
		path, auth = "/", ""
	}
	return []byte("GET " + path + " HTTP/1.1\r\nHost: " + t.Addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + auth + "\r\n")
}
