package session

import (
	"bytes"
	"strings"

	"pushgate/api"
)

const (
	// headBytes is the largest request head, the token not counted.
	headBytes = 8 << 10
	// headLines is the largest number of header lines.
	headLines = 64
)

// request is what matters of a request head. Its strings alias no buffer.
type request struct {
	method  string
	path    string
	query   string
	host    string
	origin  string
	site    string // Sec-Fetch-Site
	accept  string
	cookies string // all Cookie headers, joined
	// forwarded are the X-Forwarded-For headers, joined.
	forwarded string
	bearer    string // token of the Authorization header
	auths     int    // Authorization headers of any scheme
	key       string
	version   string
	// protocols are those offered in Sec-WebSocket-Protocol, in order.
	protocols []string
	upgrade   bool // Upgrade: websocket and Connection: Upgrade
	hasOrigin bool
	hasBody   bool
	chunked   bool
	keys      int
	close     bool // Connection: close
	// lastEventID is the header of a client of server-sent events that comes back.
	lastEventID string
	// extensions are the Sec-WebSocket-Extensions headers, joined.
	extensions string
}

// malformed is a head that is refused with 400.
type malformed string

func (m malformed) Error() string { return string(m) }

const (
	errBareLF      = malformed("a line of the head ends with a bare LF")
	errBareCR      = malformed("a line of the head holds a bare CR")
	errRequestLine = malformed("the request line is not METHOD SP TARGET SP HTTP/1.1")
	errTarget      = malformed("the request target must be a path in visible ASCII")
	errVersion     = malformed("only HTTP/1.1 is spoken here")
	errFold        = malformed("a header line is folded")
	errHeaderName  = malformed("a header name is empty, holds characters that no name may have, or is followed by a space")
	errHeaderValue = malformed("a header value holds a control character")
	errHosts       = malformed("a request needs exactly one Host header")
	errHost        = malformed("the Host header is not valid")
	errLength      = malformed("the Content-Length header is not one plain number")
	errBothLengths = malformed("Transfer-Encoding and Content-Length exclude each other")
	errOrigins     = malformed("there is more than one Origin header")
	errAuths       = malformed("there is more than one Authorization header")
)

// scanHead looks at new bytes, from from on, for the end of the head. It
// returns the head's length including its empty line, 0 while it is not
// complete. A bare LF is an error at once: its sender would wait for ever.
func scanHead(b []byte, from int) (int, error) {
	for i := from; ; i++ {
		k := bytes.IndexByte(b[i:], '\n')
		if k < 0 {
			return 0, nil
		}
		i += k
		if i == 0 || b[i-1] != '\r' {
			return 0, errBareLF
		}
		if i == 1 {
			return 0, errRequestLine
		}
		if i >= 3 && b[i-2] == '\n' && b[i-3] == '\r' {
			return i + 1, nil
		}
	}
}

// parseHead reads a complete head, strictly: what two readers could understand
// in two ways is refused (RFC 9112 §2.2, §3.2, §5, §6.3). lines is the number
// of header lines.
func parseHead(head []byte) (r request, lines int, err error) {
	text := string(head[:len(head)-2]) // one copy, which every field shares
	line, text, _ := strings.Cut(text, "\r\n")
	if err := r.requestLine(line); err != nil {
		return r, 0, err
	}
	hosts, lengths := 0, 0
	var connection, upgrade bool
	for text != "" {
		line, text, _ = strings.Cut(text, "\r\n")
		lines++
		name, value, err := headerLine(line)
		if err != nil {
			return r, lines, err
		}
		switch strings.ToLower(name) {
		case "host":
			hosts++
			r.host = value
			if !validHost(value) {
				return r, lines, errHost
			}
		case "content-length":
			lengths++
			if value == "" || len(value) > 18 || strings.Trim(value, "0123456789") != "" || lengths > 1 {
				return r, lines, errLength
			}
			r.hasBody = r.hasBody || strings.Trim(value, "0") != ""
		case "transfer-encoding":
			r.chunked = true
		case "connection":
			connection = connection || hasToken(value, "upgrade")
			r.close = r.close || hasToken(value, "close")
		case "last-event-id":
			r.lastEventID = value
		case "upgrade":
			upgrade = upgrade || hasToken(value, "websocket")
		case "origin":
			if r.hasOrigin {
				return r, lines, errOrigins
			}
			r.origin, r.hasOrigin = value, true
		case "authorization":
			r.auths++
			if scheme, token, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "Bearer") {
				r.bearer = strings.TrimLeft(token, " ")
			}
		case "accept":
			r.accept = joined(r.accept, ",", value)
		case "cookie":
			r.cookies = joined(r.cookies, ";", value)
		case "x-forwarded-for":
			r.forwarded = joined(r.forwarded, ",", value)
		case "sec-fetch-site":
			r.site = joined(r.site, ",", value)
		case "sec-websocket-key":
			r.keys++
			r.key = value
		case "sec-websocket-extensions":
			r.extensions = joined(r.extensions, ",", value)
		case "sec-websocket-version":
			r.version = value
		case "sec-websocket-protocol":
			for p := range strings.SplitSeq(value, ",") {
				if p = strings.Trim(p, " \t"); p != "" {
					r.protocols = append(r.protocols, p)
				}
			}
		}
	}
	switch {
	case hosts != 1:
		return r, lines, errHosts
	case r.chunked && lengths > 0:
		return r, lines, errBothLengths
	case r.auths > 1:
		return r, lines, errAuths
	}
	r.upgrade = connection && upgrade
	return r, lines, nil
}

// tooLarge reports whether a head has more lines than it may, or more bytes
// beside its token.
func (r *request) tooLarge(cfg *Config, size, lines int) bool {
	return lines > headLines || size > headBytes && size-r.tokenBytes(cfg.CookieName) > headBytes
}

// tokenBytes is how much of a head is tokens, in whatever carrier.
func (r *request) tokenBytes(cookie string) int {
	n := len(r.bearer)
	for _, p := range r.protocols {
		if token, ok := strings.CutPrefix(p, bearerPrefix); ok {
			n += len(token)
		}
	}
	for pair := range strings.SplitSeq(r.query, "&") {
		if token, ok := strings.CutPrefix(pair, "access_token="); ok {
			n += len(token)
		}
	}
	for pair := range strings.SplitSeq(r.cookies, ";") {
		if name, token, _ := strings.Cut(strings.Trim(pair, " \t"), "="); cookie != "" && name == cookie {
			n += len(token)
		}
	}
	return n
}

// joined is a list header's value with that of one more line.
func joined(before, by, value string) string {
	if before == "" {
		return value
	}
	return before + by + value
}

func (r *request) requestLine(line string) error {
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || !isToken(method) {
		return errRequestLine
	}
	if version != "HTTP/1.1" {
		if strings.HasPrefix(version, "HTTP/") {
			return errVersion
		}
		return errRequestLine
	}
	if target == "" || target[0] != '/' {
		return errTarget
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return errTarget
		}
	}
	r.method = method
	r.path, r.query, _ = strings.Cut(target, "?")
	return nil
}

func headerLine(line string) (name, value string, err error) {
	if line != "" && (line[0] == ' ' || line[0] == '\t') {
		return "", "", errFold
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) {
		return "", "", errHeaderName
	}
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		switch c := value[i]; {
		case c == '\r':
			return "", "", errBareCR
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", "", errHeaderValue
		}
	}
	return name, value, nil
}

// isToken reports whether s is a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			continue
		}
		if strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func validHost(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			continue
		}
		if strings.IndexByte("!$%&'()*+,-.:;=[]_~", c) < 0 {
			return false
		}
	}
	return true
}

func hasToken(list, token string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(t, " \t"), token) {
			return true
		}
	}
	return false
}

// refuseMalformed is the refusal of a head that could not be read.
func refuseMalformed(message string) api.Refusal {
	return api.Refusal{Kind: api.RefusedMalformed, Message: message}
}
