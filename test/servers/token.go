package servers

import (
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Secret is what gateways of a test verify tokens with.
const Secret = "a secret for this machine and this run only"

// Token is a user's, for longer than any run.
func Token(user string) (string, error) {
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "iat": now.Unix(), "exp": now.Add(12 * time.Hour).Unix(),
	}).SignedString([]byte(Secret))
}
