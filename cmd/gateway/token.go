package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"pushgate/internal/auth"
)

type tokenCommand struct {
	configFlags
	Sub   string        `required:"" placeholder:"USER" help:"The user: claim sub."`
	Claim []string      `sep:"none" placeholder:"K=V" help:"Another claim; V is JSON where it is valid JSON, else text. Repeatable."`
	TTL   time.Duration `name:"ttl" default:"1h" help:"Time until it expires."`
	Key   string        `name:"key-file" placeholder:"FILE" help:"Private key (PEM) to sign with, instead of auth.hs256_secret."`
}

func (*tokenCommand) Help() string {
	return `Prints only the token, signed with auth.hs256_secret, which must be the gateway's own, or with a private key whose
public one is among the gateway's auth.public_key_files.

    gateway token --sub alice
    gateway token --sub alice --key-file private.pem
    TOKEN=$(gateway token --sub alice --claim team=red --claim 'rooms=["a","b"]' --ttl 5m)`
}

func (c *tokenCommand) Run(s *invocation) error {
	cfg, _, err := c.load(s, false)
	if err != nil {
		return err
	}
	token, err := c.mint(cfg, time.Now())
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(s.stdout, token); err != nil {
		return err
	}
	warnAboutToken(s, cfg, token)
	return nil
}

func (c *tokenCommand) mint(cfg *Config, now time.Time) (string, error) {
	if c.TTL < time.Second {
		return "", configErrorf("--ttl %s must be at least 1s", c.TTL)
	}
	claims := tokenClaims(cfg, c.Sub, now, c.TTL)
	given := map[string]bool{}
	for _, claim := range c.Claim {
		name, value, ok := strings.Cut(claim, "=")
		switch {
		case !ok || name == "":
			return "", configErrorf("--claim %q is not a name and a value like team=red", claim)
		case name == "sub" || name == "exp":
			return "", configErrorf("--claim %q is not taken: use --sub for sub and --ttl for exp", claim)
		case given[name]:
			return "", configErrorf("--claim %q is given twice: a list is written '%s=[\"a\",\"b\"]'", name, name)
		}
		given[name] = true
		claims[name] = claimValue(value)
	}
	if c.Key == "" {
		return mintToken(cfg, claims)
	}
	content, err := os.ReadFile(c.Key)
	if err != nil {
		return "", configErrorf("--key-file: %v", err)
	}
	key, err := auth.ParsePrivateKey(content)
	if err != nil {
		return "", configErrorf("--key-file %s %v", c.Key, err)
	}
	return auth.MintWithKey(key, claims)
}

func tokenClaims(cfg *Config, sub string, now time.Time, ttl time.Duration) map[string]any {
	claims := map[string]any{"sub": sub, "iat": now.Unix(), "exp": now.Add(ttl).Unix()}
	if cfg.Auth.Issuer != "" {
		claims["iss"] = cfg.Auth.Issuer
	}
	if cfg.Auth.Audience != "" {
		claims["aud"] = cfg.Auth.Audience
	}
	return claims
}

func mintToken(cfg *Config, claims map[string]any) (string, error) {
	if cfg.Auth.HS256Secret == "" {
		return "", configErrorf("there is no secret to sign with: set GATEWAY_AUTH_HS256_SECRET or --auth.hs256_secret to the gateway's own; `gateway dev` makes a new one in each run unless it has one, and prints a token")
	}
	return auth.Mint([]byte(cfg.Auth.HS256Secret), claims)
}

// claimValue keeps numbers as they are written: a large one is not rounded.
func claimValue(s string) any {
	if !json.Valid([]byte(s)) {
		return s
	}
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	var value any
	if d.Decode(&value) != nil {
		return s
	}
	return value
}

// warnAboutToken says at once what the gateway would say later.
func warnAboutToken(s *invocation, cfg *Config, token string) {
	_, keys, err := openKeyFiles(cfg.Auth.PublicKeyFiles)
	if err != nil || cfg.Auth.HS256Secret == "" && len(keys) == 0 {
		return // there is nothing to hold it against
	}
	verifier, err := auth.New(cfg.authOptions(keys))
	if err == nil {
		_, err = verifier.Verify(token)
	}
	if err != nil {
		_, _ = fmt.Fprintf(s.stderr, "warning: a gateway with this configuration refuses this token: %v\n", err)
	}
}
