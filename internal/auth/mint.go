package auth

import (
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// Mint signs the claims with HS256 and returns the token. The claims are taken
// as they are: exp, iat and the rest are the caller's. It fails for a secret
// shorter than [MinSecret] and for claims that are not JSON.
func Mint(secret []byte, claims map[string]any) (string, error) {
	if len(secret) < MinSecret {
		return "", fmt.Errorf("the HS256 secret has %d bytes, but must have at least %d", len(secret), MinSecret)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(claims)).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("the claims cannot be a token: %w", err)
	}
	return token, nil
}
