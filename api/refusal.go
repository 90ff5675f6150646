package api

import (
	"net/http"
	"strconv"
	"time"
)

// Refusal is why a request got an error instead of a session. The zero value
// refuses nothing.
type Refusal struct {
	Kind       RefusalKind
	Message    string        // one plain sentence for the client; never a token
	RetryAfter time.Duration // sent with 429 and 503
	BadToken   bool          // 401: there was a token, and it was not good
}

// RefusalKind is a refusal's status, code and metric label in one value.
type RefusalKind uint8

// The kinds of refusal, and their HTTP status.
const (
	RefusedNot         RefusalKind = iota
	RefusedMalformed               // 400
	RefusedToken                   // 401
	RefusedOrigin                  // 403
	RefusedForbidden               // 403
	RefusedPath                    // 404
	RefusedMethod                  // 405
	RefusedSlowHead                // 408
	RefusedUpgrade                 // 426
	RefusedRate                    // 429
	RefusedHeadSize                // 431
	RefusedNeedsStream             // 501
	RefusedFull                    // 503
	RefusedDraining                // 503
	RefusedDescriptors             // 503
	refusalCount
)

var refusals = [refusalCount]struct {
	status int
	code   string
}{
	RefusedNot:         {0, "accepted"},
	RefusedMalformed:   {http.StatusBadRequest, "malformed"},
	RefusedToken:       {http.StatusUnauthorized, "unauthorized"},
	RefusedOrigin:      {http.StatusForbidden, "origin"},
	RefusedForbidden:   {http.StatusForbidden, "forbidden"},
	RefusedPath:        {http.StatusNotFound, "not_found"},
	RefusedMethod:      {http.StatusMethodNotAllowed, "method_not_allowed"},
	RefusedSlowHead:    {http.StatusRequestTimeout, "timeout"},
	RefusedUpgrade:     {http.StatusUpgradeRequired, "upgrade_required"},
	RefusedRate:        {http.StatusTooManyRequests, "rate"},
	RefusedHeadSize:    {http.StatusRequestHeaderFieldsTooLarge, "head_too_large"},
	RefusedNeedsStream: {http.StatusNotImplemented, "needs_stream"},
	RefusedFull:        {http.StatusServiceUnavailable, "full"},
	RefusedDraining:    {http.StatusServiceUnavailable, "draining"},
	RefusedDescriptors: {http.StatusServiceUnavailable, "descriptors"},
}

// RefusalKinds are all kinds of refusal, so that their counters can be made at
// zero.
func RefusalKinds() []RefusalKind {
	all := make([]RefusalKind, 0, refusalCount-1)
	for k := RefusedNot + 1; k < refusalCount; k++ {
		all = append(all, k)
	}
	return all
}

// Status is the HTTP status.
func (k RefusalKind) Status() int { return refusals[k].status }

// String is the error code in the body and the metric label.
func (k RefusalKind) String() string { return refusals[k].code }

// CORS is which page may read an answer. The zero value is none.
type CORS struct {
	Origin      string // checked by the caller
	Credentials bool   // the page may send its cookie with the request
}

// AppendRefusal appends the whole HTTP/1.1 answer. The connection ends after
// it.
func AppendRefusal(dst []byte, r Refusal, cors CORS) []byte {
	body := append([]byte(`{"error":`), appendString(nil, r.Kind.String())...)
	body = append(body, `,"message":`...)
	body = append(appendString(body, r.Message), '}', '\n')

	status := r.Kind.Status()
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\nCache-Control: no-store\r\nConnection: close"...)
	if r.Kind == RefusedUpgrade {
		dst = append(dst, ", Upgrade"...) // RFC 9110 §7.8
	}
	dst = append(dst, "\r\n"...)
	switch r.Kind {
	case RefusedToken:
		dst = append(dst, "WWW-Authenticate: Bearer"...)
		if r.BadToken {
			dst = append(dst, ` error="invalid_token"`...)
		}
		dst = append(dst, "\r\n"...)
	case RefusedMethod:
		dst = append(dst, "Allow: GET, OPTIONS\r\n"...)
	case RefusedUpgrade:
		// RFC 6455 §4.4: the answer names the versions that would do.
		dst = append(dst, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"...)
	}
	if r.RetryAfter > 0 {
		seconds := (r.RetryAfter + time.Second - 1) / time.Second
		dst = append(dst, "Retry-After: "...)
		dst = strconv.AppendInt(dst, int64(seconds), 10)
		dst = append(dst, "\r\n"...)
	}
	dst = AppendCORS(dst, cors)
	dst = append(dst, "\r\n"...)
	return append(dst, body...)
}

// AppendCORS appends the header lines that let a page read an answer, its
// Retry-After and WWW-Authenticate included.
func AppendCORS(dst []byte, cors CORS) []byte {
	if cors.Origin == "" {
		return dst
	}
	dst = append(dst, "Access-Control-Allow-Origin: "...)
	dst = append(dst, cors.Origin...)
	if cors.Credentials {
		dst = append(dst, "\r\nAccess-Control-Allow-Credentials: true"...)
	}
	return append(dst, "\r\nVary: Origin\r\nAccess-Control-Expose-Headers: Retry-After, WWW-Authenticate\r\n"...)
}

// AppendPreflight appends the answer to a CORS preflight.
func AppendPreflight(dst []byte, cors CORS) []byte {
	dst = append(dst, "HTTP/1.1 204 No Content\r\nConnection: close\r\n"...)
	if cors.Origin != "" {
		dst = append(dst, "Access-Control-Allow-Methods: GET\r\n"+
			"Access-Control-Allow-Headers: Authorization, Last-Event-ID, Cache-Control\r\n"+
			"Access-Control-Max-Age: 600\r\n"...)
	}
	dst = AppendCORS(dst, cors)
	return append(dst, "\r\n"...)
}
