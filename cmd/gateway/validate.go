package main

import (
	"crypto"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
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
// files that it names, and connects to nothing.
func validate(c *Config) error {
	for _, check := range []func(*Config) error{
		validateAddresses, validateProxies, validateTLS, validateNATS, validateDurable, validateAuth, validateLimits,
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

func validateProxies(c *Config) error {
	_, err := c.trustedNetworks()
	return err
}

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, " \t/@") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func validateTLS(c *Config) error {
	t := &c.TLS
	switch {
	case t.CertFile == "" && t.KeyFile == "":
		return nil
	case t.KeyFile == "":
		return &keyError{"tls.cert_file", t.CertFile, "needs tls.key_file beside it"}
	case t.CertFile == "":
		return &keyError{"tls.key_file", t.KeyFile, "needs tls.cert_file beside it"}
	}
	_, err := openCertFiles(t.CertFile, t.KeyFile)
	return err
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

// validateDurable checks the names of the stream and of its republished copies.
func validateDurable(c *Config) error {
	d := &c.Durable
	root, _, _ := strings.Cut(d.RepublishPrefix, ".")
	switch {
	case d.Stream != "" && (!api.ValidToken(d.Stream) || strings.ContainsAny(d.Stream, "/\\")):
		return &keyError{"durable.stream", d.Stream, "cannot be the name of a stream: it has no dot, wildcard, slash or space"}
	case !api.ValidSubject(d.RepublishPrefix):
		return &keyError{"durable.republish_prefix", d.RepublishPrefix, "is not a subject: tokens joined by dots, without wildcards"}
	case strings.HasPrefix(root, "$"), root == "_INBOX", root == "pushgate":
		return &keyError{"durable.republish_prefix", d.RepublishPrefix, "begins with a name that NATS or the gateway uses itself"}
	}
	for _, other := range []string{c.NATS.Prefix, c.NATS.FlashPrefix} {
		if within(other, d.RepublishPrefix) || within(d.RepublishPrefix, other) {
			return &keyError{"durable.republish_prefix", d.RepublishPrefix, "must not overlap " + strconv.Quote(other)}
		}
	}
	return nil
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
	for _, origin := range a.Origins {
		if origin != "*" && !isOrigin(origin) {
			return &keyError{"auth.origins", a.Origins, fmt.Sprintf("holds %q, which is neither * nor an origin like https://app.example.com", origin)}
		}
	}
	if err := validateCarriers(a); err != nil {
		return err
	}
	if len(a.Issuers) == 0 {
		for _, s := range c.Subscriptions {
			if err := auth.CheckTemplate(s, ""); err != nil {
				return &keyError{"subscriptions", c.Subscriptions, "cannot be used: " + err.Error()}
			}
		}
	}
	return validateKeys(c)
}

func validateCarriers(a *AuthConfig) error {
	switch {
	case len(a.Carriers) == 0:
		return &keyError{"auth.carriers", a.Carriers, "is empty: no client could bring a token"}
	case a.CookieName != "" && !isCookieName(a.CookieName):
		return &keyError{"auth.cookie_name", a.CookieName, "cannot be the name of a cookie"}
	case !slices.Contains(a.Carriers, "cookie"):
		return nil
	case a.CookieName == "":
		return &keyError{"auth.carriers", a.Carriers, "holds cookie, but auth.cookie_name does not say which"}
	case len(a.Origins) == 0, slices.Contains(a.Origins, "*"):
		return &keyError{"auth.carriers", a.Carriers, "holds cookie, which needs auth.origins to name the pages that may use it, without *: a browser sends the cookie along whoever asks"}
	}
	return nil
}

// isCookieName reports whether s is a token of RFC 9110 §5.6.2 (RFC 6265 §4.1.1).
func isCookieName(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// hasKeys reports whether tokens can be verified at all.
func (a *AuthConfig) hasKeys() bool {
	return a.HS256Secret != "" || len(a.PublicKeyFiles) > 0 || a.JWKSURL != "" || len(a.Issuers) > 0
}

// validateKeys reads the files of keys, and has the keys, the algorithms and
// the issuers meet.
func validateKeys(c *Config) error {
	a := &c.Auth
	if len(a.Issuers) > 0 {
		for _, single := range []struct {
			key string
			set bool
		}{
			{"auth.hs256_secret", a.HS256Secret != ""}, {"auth.public_key_files", len(a.PublicKeyFiles) > 0},
			{"auth.jwks_url", a.JWKSURL != ""}, {"auth.issuer", a.Issuer != ""}, {"auth.audience", a.Audience != ""},
			{"auth.algorithms", len(a.Algorithms) > 0},
		} {
			if single.set {
				return &keyError{"auth.issuers", a.Issuers, "cannot stand beside " + single.key + ": say it of one of the issuers"}
			}
		}
	}
	if !a.hasKeys() {
		return nil // needKey says so where one is needed
	}
	if a.JWKSURL != "" {
		if err := auth.CheckJWKSURL(a.JWKSURL); err != nil {
			return &keyError{"auth.jwks_url", a.JWKSURL, "cannot be used: " + err.Error()}
		}
		if a.HS256Secret != "" || len(a.PublicKeyFiles) > 0 {
			return &keyError{"auth.jwks_url", a.JWKSURL, "cannot stand beside auth.hs256_secret or auth.public_key_files: keep one, or name auth.issuers"}
		}
	}
	keys, _, err := openKeyFiles(c.issuers())
	if err != nil && len(a.Issuers) == 0 {
		return &keyError{"auth.public_key_files", a.PublicKeyFiles, err.Error()}
	}
	if err == nil {
		_, err = auth.New(c.authOptions(keys))
	}
	switch {
	case err != nil && len(a.Issuers) > 0:
		return &keyError{"auth.issuers", a.Issuers, "cannot be used: " + err.Error()}
	case err != nil:
		return &keyError{"auth.algorithms", a.Algorithms, "cannot be used: " + err.Error()}
	}
	return nil
}

// trustedNetworks are proxy.trusted, read.
func (c *Config) trustedNetworks() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range c.Proxy.Trusted {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			one, err := netip.ParseAddr(s)
			if err != nil || one.Zone() != "" {
				return nil, &keyError{"proxy.trusted", c.Proxy.Trusted, fmt.Sprintf("holds %q, which is no network like 10.0.0.0/8 and no address", s)}
			}
			p = netip.PrefixFrom(one, one.BitLen())
		}
		all = append(all, p.Masked())
	}
	return all, nil
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
	for i, s := range c.SlowConsumers {
		switch {
		case !api.ValidPattern(s.Subject):
			return &keyError{"slow_consumers", c.SlowConsumers, fmt.Sprintf("[%d]: subject %q is not a subject or pattern", i, s.Subject)}
		case s.Policy == "":
			return &keyError{"slow_consumers", c.SlowConsumers, fmt.Sprintf("[%d]: policy is missing: disconnect, drop_oldest or latest", i)}
		}
	}
	return nil
}

// needKey refuses a configuration without a key to verify tokens with.
func needKey(c *Config) error {
	if c.Auth.hasKeys() {
		return nil
	}
	return &configError{"there is no key to verify tokens with: set auth.hs256_secret in the file, GATEWAY_AUTH_HS256_SECRET, GATEWAY_AUTH_HS256_SECRET_FILE or --auth.hs256_secret_file, or name auth.public_key_files, auth.jwks_url or auth.issuers"}
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

// issuers are auth.issuers with what they leave to the rest, or the one that
// the simple keys describe.
func (c *Config) issuers() []IssuerConfig {
	a := &c.Auth
	if len(a.Issuers) == 0 {
		return []IssuerConfig{{
			Issuer: a.Issuer, Audience: a.Audience, HS256Secret: a.HS256Secret, PublicKeyFiles: a.PublicKeyFiles,
			JWKSURL: a.JWKSURL, Algorithms: a.Algorithms, Subscriptions: c.Subscriptions,
		}}
	}
	all := slices.Clone(a.Issuers)
	for i := range all {
		if len(all[i].Subscriptions) == 0 {
			all[i].Subscriptions = c.Subscriptions
		}
	}
	return all
}

// authOptions are the rules for tokens; keys are what each issuer's files hold,
// nil where there are none.
func (c *Config) authOptions(keys [][]crypto.PublicKey) auth.Options {
	a := &c.Auth
	o := auth.Options{
		Leeway: a.Leeway, MaxLifetime: a.MaxLifetime, TokenBytes: int(a.TokenBytes), CacheBytes: int(a.CacheBytes),
		MaxSubjects: c.Limits.Subjects, JWKSInterval: a.JWKSInterval, JWKSRefresh: a.JWKSRefresh,
	}
	for place, i := range c.issuers() {
		issuer := auth.Issuer{
			Name: i.Name, Issuer: i.Issuer, Audience: i.Audience, Secret: []byte(i.HS256Secret),
			JWKSURL: i.JWKSURL, Algorithms: i.Algorithms, Subscriptions: i.Subscriptions, GrantCeiling: i.GrantCeiling,
		}
		if place < len(keys) {
			issuer.PublicKeys = keys[place]
		}
		o.Issuers = append(o.Issuers, issuer)
	}
	return o
}
