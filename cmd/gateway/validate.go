package main

import (
	"crypto"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"pushgate/api"
	"pushgate/internal/auth"
	"pushgate/internal/bus"
)

// keyError is a value that the table's ranges cannot tell is wrong.
type keyError struct {
	key   string
	value any
	text  string
}

func (e *keyError) Error() string { return e.text }

// validate checks what takes more than one value or a grammar. It reads the
// files of nats.*, and connects to nothing.
func validate(c *Config) error {
	for _, check := range []func(*Config) error{
		validateAddresses, validateNATS, validateAuth, validateLimits,
	} {
		if err := check(c); err != nil {
			return err
		}
	}
	return nil
}

func validateAddresses(c *Config) error {
	for _, a := range []struct {
		key, value string
		optional   bool
	}{
		{"listen", c.Listen, false},
		{"admin.listen", c.Admin.Listen, false},
		{"admin.debug_listen", c.Admin.DebugListen, true},
		{"dev.nats_listen", c.Dev.NATSListen, false},
	} {
		if !isAddress(a.value) && (a.value != "" || !a.optional) {
			return &keyError{a.key, a.value, "is not an address like :8080 or 127.0.0.1:8080"}
		}
	}
	for _, admin := range []struct{ key, value string }{
		{"admin.listen", c.Admin.Listen}, {"admin.debug_listen", c.Admin.DebugListen},
	} {
		if admin.value == c.Listen && !strings.HasSuffix(admin.value, ":0") {
			return &keyError{admin.key, admin.value, "must not be the public address of listen"}
		}
	}
	return nil
}

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, " \t/@") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func validateNATS(c *Config) error {
	for _, root := range []struct{ key, value string }{
		{"nats.prefix", c.NATS.Prefix}, {"nats.flash_prefix", c.NATS.FlashPrefix},
	} {
		first, _, _ := strings.Cut(root.value, ".")
		switch {
		case !api.ValidSubject(root.value):
			return &keyError{root.key, root.value, "is not a subject: tokens joined by dots, without wildcards"}
		case strings.HasPrefix(first, "$"), first == "_INBOX", first == "pushgate":
			return &keyError{root.key, root.value, "begins with a name that NATS or the gateway uses itself"}
		}
	}
	if within(c.NATS.Prefix, c.NATS.FlashPrefix) || within(c.NATS.FlashPrefix, c.NATS.Prefix) {
		return &keyError{"nats.flash_prefix", c.NATS.FlashPrefix, "must not overlap nats.prefix " + strconv.Quote(c.NATS.Prefix)}
	}
	return c.busOptions().Validate()
}

// within reports whether subject is root or lies below it.
func within(root, subject string) bool {
	return subject == root || strings.HasPrefix(subject, root+".")
}

func validateAuth(c *Config) error {
	a := &c.Auth
	if n := len(a.HS256Secret); n > 0 && n < auth.MinSecret {
		return &keyError{"auth.hs256_secret", "", fmt.Sprintf("has %d bytes, but must have at least %d", n, auth.MinSecret)}
	}
	if len(a.Carriers) == 0 {
		return &keyError{"auth.carriers", a.Carriers, "is empty: no client could bring a token"}
	}
	for _, origin := range a.Origins {
		if origin != "*" && !isOrigin(origin) {
			return &keyError{"auth.origins", a.Origins, fmt.Sprintf("holds %q, which is neither * nor an origin like https://app.example.com", origin)}
		}
	}
	for _, s := range c.Subscriptions {
		if err := auth.CheckTemplate(s); err != nil {
			return &keyError{"subscriptions", c.Subscriptions, "cannot be used: " + err.Error()}
		}
	}
	return validateKeys(c)
}

// validateKeys reads auth.public_key_files, and has the keys and the
// algorithms meet.
func validateKeys(c *Config) error {
	_, keys, err := openKeyFiles(c.Auth.PublicKeyFiles)
	if err != nil {
		return err
	}
	if c.Auth.HS256Secret == "" && len(keys) == 0 {
		return nil // needKey says so where one is needed
	}
	if _, err := auth.New(c.authOptions(keys)); err != nil {
		return &keyError{"auth.algorithms", c.Auth.Algorithms, "cannot be used: " + err.Error()}
	}
	return nil
}

// isOrigin reports whether a browser can send s as Origin: scheme and host in
// lower case, a port unless it is the scheme's own, and nothing else.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Hostname() == "" || s != u.Scheme+"://"+u.Host {
		return false
	}
	ownPort := u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80"
	return s == strings.ToLower(s) && !strings.HasSuffix(s, ":") && !strings.Contains(s, "*") && !ownPort
}

func validateLimits(c *Config) error {
	if c.Limits.OutboxBytes < c.Limits.EventBytes {
		return &keyError{"limits.outbox_bytes", c.Limits.OutboxBytes, fmt.Sprintf("must be at least limits.event_bytes, which is %s", c.Limits.EventBytes)}
	}
	return nil
}

// needKey refuses a configuration without a key to verify tokens with.
func needKey(c *Config) error {
	if c.Auth.HS256Secret != "" || len(c.Auth.PublicKeyFiles) > 0 {
		return nil
	}
	return &configError{"there is no key to verify tokens with: set auth.hs256_secret in the file, GATEWAY_AUTH_HS256_SECRET, GATEWAY_AUTH_HS256_SECRET_FILE or --auth.hs256_secret_file, or name auth.public_key_files"}
}

// busOptions are how to reach NATS.
func (c *Config) busOptions() bus.Options {
	n := &c.NATS
	return bus.Options{
		URL: n.URL, CredsFile: n.CredsFile, NKeyFile: n.NKeyFile,
		User: n.User, Password: n.Password, Token: n.Token,
		TLSCAFile: n.TLS.CAFile, TLSCertFile: n.TLS.CertFile, TLSKeyFile: n.TLS.KeyFile,
		Name: "pushgate",
	}
}

// authOptions are the rules for tokens; keys are what auth.public_key_files
// hold.
func (c *Config) authOptions(keys []crypto.PublicKey) auth.Options {
	a := &c.Auth
	return auth.Options{
		Secret: []byte(a.HS256Secret), PublicKeys: keys, Algorithms: a.Algorithms, Issuer: a.Issuer, Audience: a.Audience,
		Leeway: a.Leeway, MaxLifetime: a.MaxLifetime, TokenBytes: int(a.TokenBytes),
		Subscriptions: c.Subscriptions,
	}
}
