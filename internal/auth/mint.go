package auth

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// Mint signs the claims with HS256 and returns the token. The claims are taken
// as they are: exp, iat and the rest are the caller's. It fails for a secret
// shorter than [MinSecret] and for claims that are not JSON.
func Mint(secret []byte, claims map[string]any) (string, error) {
	if len(secret) < MinSecret {
		return "", fmt.Errorf("the secret has %d bytes, but must have at least %d", len(secret), MinSecret)
	}
	return signClaims(jwt.SigningMethodHS256, secret, claims)
}

// MintWithKey does the same with a private key and its type's own algorithm.
func MintWithKey(key crypto.Signer, claims map[string]any) (string, error) {
	own, _, _, err := uses(key.Public())
	if err != nil {
		return "", err
	}
	return signClaims(jwt.GetSigningMethod(own), key, claims)
}

func signClaims(method jwt.SigningMethod, key any, claims map[string]any) (string, error) {
	token, err := jwt.NewWithClaims(method, jwt.MapClaims(claims)).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("the claims cannot be a token: %w", err)
	}
	return token, nil
}

// ParsePrivateKey reads the first private key of a PEM file, which must not be
// encrypted. The error never holds any of it.
func ParsePrivateKey(file []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(file)
	if block == nil {
		return nil, errors.New("holds no PEM block")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("holds a %q, which is no private key that can be read", block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("holds a private key that cannot be read")
	}
	return signer, nil
}
