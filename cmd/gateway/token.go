package main

import (
	"bytes"
	"encoding/json"
	"errors"
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
	As    string        `name:"issuer" placeholder:"NAME" help:"Which of auth.issuers makes it; needed where there are several."`
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
	issuer, err := cfg.issuer(c.As)
	if err != nil {
		return "", err
	}
	claims := tokenClaims(issuer, c.Sub, now, c.TTL)
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
		return mintToken(issuer, claims)
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

// issuer is the one of this name; where there is one only, it needs none.
func (c *Config) issuer(name string) (*IssuerConfig, error) {
	all := c.issuers()
	var names []string
	for i := range all {
		if all[i].Name == name || name == "" && len(all) == 1 {
			return &all[i], nil
		}
		names = append(names, all[i].Name)
	}
	if len(c.Auth.Issuers) == 0 {
		return nil, configErrorf("--issuer %q: there are no auth.issuers", name)
	}
	return nil, configErrorf("--issuer %q must be one of auth.issuers: %s", name, strings.Join(names, ", "))
}

func tokenClaims(i *IssuerConfig, sub string, now time.Time, ttl time.Duration) map[string]any {
	claims := map[string]any{"sub": sub, "iat": now.Unix(), "exp": now.Add(ttl).Unix()}
	if i.Issuer != "" {
		claims["iss"] = i.Issuer
	}
	if i.Audience != "" {
		claims["aud"] = i.Audience
	}
	return claims
}

func mintToken(i *IssuerConfig, claims map[string]any) (string, error) {
	if i.HS256Secret == "" {
		return "", configErrorf("there is no secret to sign with: set GATEWAY_AUTH_HS256_SECRET or --auth.hs256_secret to the gateway's own, or name a private --key-file; `gateway dev` makes a new secret in each run unless it has one, and prints a token")
	}
	return auth.Mint([]byte(i.HS256Secret), claims)
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
	keys, _, err := openKeyFiles(cfg.issuers())
	if err != nil || !cfg.Auth.hasKeys() {
		return // there is nothing to hold it against
	}
	verifier, err := auth.New(cfg.authOptions(keys))
	if err == nil {
		_, err = verifier.Verify(token)
	}
	if err != nil && !errors.Is(err, auth.ErrNoKeys) {
		_, _ = fmt.Fprintf(s.stderr, "warning: a gateway with this configuration refuses this token: %v\n", err)
	}
}
