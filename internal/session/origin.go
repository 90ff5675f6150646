package session

import (
	"slices"
	"strings"

	"pushgate/api"
)

// The carriers of a token. Those of a request that are not allowed are not
// looked at.
const (
	carrierHeader      = "header"
	carrierSubprotocol = "subprotocol"
	carrierQuery       = "query"
	carrierCookie      = "cookie"
)

// findToken takes the token from the one place it is in.
func (hs *handshake) findToken(cfg *Config) api.Refusal {
	r := &hs.request
	found, carrier := 0, ""
	take := func(by, token string) {
		if slices.Contains(cfg.Carriers, by) {
			found++
			hs.token, carrier = token, by
		}
	}
	if r.bearer != "" {
		take(carrierHeader, r.bearer)
	}
	offered := slices.Contains(r.protocols, subprotocol)
	for _, p := range r.protocols {
		if token, ok := strings.CutPrefix(p, bearerPrefix); ok {
			if !offered {
				return refuseMalformed("a bearer subprotocol needs pushgate.v1 offered beside it")
			}
			take(carrierSubprotocol, token)
		}
	}
	for _, token := range hs.query["access_token"] {
		take(carrierQuery, token)
	}
	for pair := range strings.SplitSeq(r.cookies, ";") {
		name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		if cfg.CookieName != "" && name == cfg.CookieName {
			take(carrierCookie, strings.Trim(value, `"`))
		}
	}
	switch {
	case found > 1:
		return refuseMalformed("there is more than one token")
	case hs.token == "":
		return api.Refusal{Kind: api.RefusedToken, Message: "a token is needed"}
	case carrier == carrierCookie && !r.hasOrigin && r.site != "same-origin":
		// A browser sends the cookie along whoever asks, and an Origin not
		// always: this says that it was our own page.
		return api.Refusal{Kind: api.RefusedOrigin, Message: "a token in a cookie needs an Origin, or Sec-Fetch-Site: same-origin"}
	}
	return api.Refusal{}
}

// takesCookie reports whether a cookie may carry the token.
func (c *Config) takesCookie() bool { return slices.Contains(c.Carriers, carrierCookie) }

// corsOf finds the page that may read a refusal in a head that has not come
// whole, or cannot be read as a request: browsers keep any other answer from
// their page.
func (c *Config) corsOf(head []byte) api.CORS {
	var origin, host string
	origins := 0
	line, rest, complete := strings.Cut(string(head), "\r\n")
	for complete && line != "" {
		switch name, value, err := headerLine(line); {
		case err != nil:
		case strings.EqualFold(name, "origin"):
			origin = value
			origins++
		case strings.EqualFold(name, "host"):
			host = value
		}
		line, rest, complete = strings.Cut(rest, "\r\n")
	}
	if origins != 1 || !c.originAllowed(origin, host) {
		return api.CORS{}
	}
	return api.CORS{Origin: origin, Credentials: c.takesCookie()}
}

// originAllowed tells whether a page of this origin may connect. What is no
// origin of a page (null: a sandbox, a file) is nobody's own host.
func (c *Config) originAllowed(origin, host string) bool {
	for _, a := range c.Origins {
		if a == "*" || strings.EqualFold(a, origin) {
			return true
		}
	}
	scheme, originHost, ok := strings.Cut(origin, "://")
	return c.SameHost && ok && (scheme == "https" || scheme == "http") && strings.EqualFold(originHost, host)
}
