package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// readAnswer reads the whole answer as a client does; nothing may follow it.
func readAnswer(t *testing.T, raw []byte) (*http.Response, []byte) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(raw))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%v: %q", err, raw)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%v: %q", err, raw)
	}
	_ = resp.Body.Close()
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("%q stands behind the answer", rest)
	}
	return resp, body
}

// TestRefusals holds every kind against the contract's statuses, and every
// answer against what each must have.
func TestRefusals(t *testing.T) {
	want := map[RefusalKind]int{
		RefusedMalformed: 400, RefusedToken: 401, RefusedOrigin: 403, RefusedForbidden: 403, RefusedPath: 404,
		RefusedMethod: 405, RefusedSlowHead: 408, RefusedUpgrade: 426, RefusedRate: 429, RefusedHeadSize: 431,
		RefusedNeedsStream: 501,
		RefusedFull:        503, RefusedDraining: 503, RefusedDescriptors: 503,
	}
	code := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	codes := map[string]bool{RefusedNot.String(): true}
	const message = "quote \" slash \\ break \r\n end \xff <é>"
	for _, k := range RefusalKinds() {
		t.Run(k.String(), func(t *testing.T) {
			resp, body := readAnswer(t, AppendRefusal([]byte(nil), Refusal{Kind: k, Message: message}, CORS{}))
			if status, ok := want[k]; !ok || resp.StatusCode != status || k.Status() != status {
				t.Errorf("status is %d, want %d", resp.StatusCode, status)
			}
			delete(want, k)
			if codes[k.String()] || !code.MatchString(k.String()) {
				t.Errorf("%q is taken or no label", k)
			}
			codes[k.String()] = true

			var got map[string]string
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatalf("%v: %q", err, body)
			}
			if len(got) != 2 || got["error"] != k.String() || got["message"] != mended(message) {
				t.Errorf("the body is %q", body)
			}
			h := resp.Header
			if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || !resp.Close {
				t.Errorf("headers are %v, close is %v", h, resp.Close)
			}
			if resp.ContentLength != int64(len(body)) || resp.ProtoMinor != 1 {
				t.Errorf("length %d of %d, HTTP/1.%d", resp.ContentLength, len(body), resp.ProtoMinor)
			}
			for name, only := range map[string]RefusalKind{
				"WWW-Authenticate": RefusedToken, "Allow": RefusedMethod, "Sec-WebSocket-Version": RefusedUpgrade,
			} {
				if n := len(h.Values(name)); (n == 1) != (k == only) || n > 1 {
					t.Errorf("%s is %q", name, h.Values(name))
				}
			}
			if h.Get("Retry-After") != "" || h.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("headers that nobody asked for: %v", h)
			}
		})
	}
	for k := range want {
		t.Errorf("RefusalKinds leaves out %s", k)
	}
}

func TestRefusalHeaders(t *testing.T) {
	for _, tc := range []struct {
		r                     Refusal
		origin, header, value string
	}{
		{Refusal{Kind: RefusedToken}, "", "WWW-Authenticate", "Bearer"},
		{Refusal{Kind: RefusedToken, BadToken: true}, "", "WWW-Authenticate", `Bearer error="invalid_token"`},
		{Refusal{Kind: RefusedMethod}, "", "Allow", "GET, OPTIONS"},
		{Refusal{Kind: RefusedUpgrade}, "", "Sec-Websocket-Version", "13"},
		{Refusal{Kind: RefusedUpgrade}, "", "Upgrade", "websocket"},
		// Rounded up: a client that is told 0 comes back at once.
		{Refusal{Kind: RefusedRate, RetryAfter: 1}, "", "Retry-After", "1"},
		{Refusal{Kind: RefusedRate, RetryAfter: 999 * time.Millisecond}, "", "Retry-After", "1"},
		{Refusal{Kind: RefusedFull, RetryAfter: time.Second}, "", "Retry-After", "1"},
		{Refusal{Kind: RefusedFull, RetryAfter: time.Second + 1}, "", "Retry-After", "2"},
		{Refusal{Kind: RefusedDraining, RetryAfter: time.Minute}, "", "Retry-After", "60"},
		{Refusal{Kind: RefusedDraining}, "", "Retry-After", ""},
		{Refusal{Kind: RefusedDraining, RetryAfter: -time.Second}, "", "Retry-After", ""},
		{Refusal{Kind: RefusedToken}, "https://app.example", "Access-Control-Allow-Origin", "https://app.example"},
		{Refusal{Kind: RefusedToken}, "https://app.example", "Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate"},
		{Refusal{Kind: RefusedToken}, "https://app.example", "Vary", "Origin"},
		{Refusal{Kind: RefusedToken}, "", "Access-Control-Expose-Headers", ""},
	} {
		resp, _ := readAnswer(t, AppendRefusal(nil, tc.r, CORS{Origin: tc.origin}))
		if got := resp.Header.Get(tc.header); got != tc.value {
			t.Errorf("%+v for %q: %s is %q, want %q", tc.r, tc.origin, tc.header, got, tc.value)
		}
	}
}

func TestPreflight(t *testing.T) {
	for _, origin := range []string{"", "https://app.example"} {
		resp, body := readAnswer(t, AppendPreflight(nil, CORS{Origin: origin}))
		if resp.StatusCode != http.StatusNoContent || len(body) > 0 || !resp.Close {
			t.Errorf("%q: status %d, body %q, close %v", origin, resp.StatusCode, body, resp.Close)
		}
		h := resp.Header
		if got := h.Get("Access-Control-Allow-Origin"); got != origin {
			t.Errorf("%q: allowed is %q", origin, got)
		}
		for name, want := range map[string]string{
			"Access-Control-Allow-Methods": "GET",
			"Access-Control-Allow-Headers": "Authorization, Last-Event-ID, Cache-Control",
			"Vary":                         "Origin",
		} {
			if origin == "" {
				want = ""
			}
			if got := h.Get(name); got != want {
				t.Errorf("%q: %s is %q", origin, name, got)
			}
		}
		if age, err := strconv.Atoi(h.Get("Access-Control-Max-Age")); origin != "" && (err != nil || age <= 0) {
			t.Errorf("%q: max age is %q", origin, h.Get("Access-Control-Max-Age"))
		}
	}
}

// TestAnswersAreAppended: what stood in the buffer before stays.
func TestAnswersAreAppended(t *testing.T) {
	before := []byte("before")
	for name, got := range map[string][]byte{
		"refusal":   AppendRefusal(before, Refusal{Kind: RefusedPath}, CORS{Origin: "https://a"}),
		"preflight": AppendPreflight(before, CORS{Origin: "https://a"}),
		"cors":      AppendCORS(before, CORS{Origin: "https://a"}),
	} {
		if !bytes.HasPrefix(got, before) || len(got) == len(before) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := AppendCORS(before, CORS{}); !bytes.Equal(got, before) {
		t.Errorf("without an origin: %q", got)
	}
}

// TestCredentials: only a page that may send its cookie is told so.
func TestCredentials(t *testing.T) {
	const name = "Access-Control-Allow-Credentials"
	for _, tc := range []struct {
		cors CORS
		want string
	}{
		{CORS{"https://a", true}, "true"},
		{CORS{"https://a", false}, ""},
		{CORS{"", true}, ""},
	} {
		for what, raw := range map[string][]byte{
			"refusal":   AppendRefusal(nil, Refusal{Kind: RefusedToken}, tc.cors),
			"preflight": AppendPreflight(nil, tc.cors),
		} {
			if resp, _ := readAnswer(t, raw); resp.Header.Get(name) != tc.want {
				t.Errorf("%s for %+v: %q", what, tc.cors, resp.Header.Get(name))
			}
		}
	}
}
