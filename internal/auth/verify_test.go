package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	noon   = time.Unix(1_767_355_200, 0)
)

func newVerifier(t testing.TB, change ...func(*Options)) *Verifier {
	t.Helper()
	o := Options{
		Issuers: []Issuer{{Secret: secret, Subscriptions: []string{"user.{sub}", "broadcast"}}},
		Leeway:  30 * time.Second,
		Now:     func() time.Time { return noon },
	}
	for _, f := range change {
		f(&o)
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func subscriptions(templates ...string) func(*Options) {
	return func(o *Options) { o.Issuers[0].Subscriptions = templates }
}

func in(d time.Duration) int64 { return noon.Add(d).Unix() }

func mint(t testing.TB, claims map[string]any) string {
	t.Helper()
	token, err := Mint(secret, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// sign makes a token of any two texts, with a good signature.
func sign(header, payload string) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(string(mac(signed)))
}

func mac(signed string) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(signed))
	return h.Sum(nil)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func refused(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want an *Error", err)
	}
	return e
}

const plain = `{"alg":"HS256","typ":"JWT"}`

func TestVerify(t *testing.T) {
	id, err := newVerifier(t).Verify(mint(t, map[string]any{"sub": "alice", "exp": in(time.Hour), "iat": in(0)}))
	if err != nil {
		t.Fatal(err)
	}
	if id.User != "alice" || !slices.Equal(id.Subjects, []string{"user.alice", "broadcast"}) ||
		id.Issued != noon.Unix() || id.Expires != in(time.Hour) {
		t.Errorf("got %+v", id)
	}
}

func TestVerifyClaims(t *testing.T) {
	both := func(o *Options) { o.Issuers[0].Issuer, o.Issuers[0].Audience = "https://id.example", "push" }
	good := map[string]any{"sub": "alice", "exp": in(time.Hour), "iss": "https://id.example", "aud": "push"}
	with := func(key string, value any) map[string]any {
		m := map[string]any{}
		for k, v := range good {
			m[k] = v
		}
		m[key] = value
		if value == nil {
			delete(m, key)
		}
		return m
	}
	tests := []struct {
		name   string
		claims map[string]any
		want   string // a reason, or empty
	}{
		{"good", good, ""},
		{"exp missing", with("exp", nil), "lifetime"},
		{"exp passed within leeway", with("exp", in(-29*time.Second)), ""},
		{"exp passed", with("exp", in(-30*time.Second)), "expired"},
		{"exp with a fraction", with("exp", float64(in(time.Minute))+0.5), ""},
		{"exp at the longest", with("exp", in(24*time.Hour+30*time.Second)), ""},
		{"exp beyond the longest", with("exp", in(24*time.Hour+31*time.Second)), "lifetime"},
		{"exp in the year 9999", with("exp", 253370764800), "lifetime"},
		{"exp that overflows", with("exp", int64(1)<<62), "malformed"},
		{"exp beyond any integer", with("exp", 1e300), "malformed"},
		{"exp a string", with("exp", "9999999999"), "malformed"},
		{"exp negative", with("exp", -1), "expired"},
		{"nbf passed", with("nbf", in(0)), ""},
		{"nbf within leeway", with("nbf", in(30*time.Second)), ""},
		{"nbf ahead", with("nbf", in(31*time.Second)), "not_yet"},
		{"nbf a list", with("nbf", []int{1}), "malformed"},
		{"iat ahead", with("iat", in(31*time.Second)), "not_yet"},
		{"iat null", with("iat", struct{}{}), "malformed"},
		{"iss missing", with("iss", nil), "issuer"},
		{"iss of somebody else", with("iss", "https://id.example/"), "issuer"},
		{"iss a number", with("iss", 1), "malformed"},
		{"aud missing", with("aud", nil), "audience"},
		{"aud of somebody else", with("aud", "pus"), "audience"},
		{"aud a list with ours", with("aud", []string{"a", "push"}), ""},
		{"aud a list without ours", with("aud", []string{"a", "b"}), "audience"},
		{"aud an empty list", with("aud", []string{}), "audience"},
		{"aud a list of numbers", with("aud", []int{1}), "malformed"},
		{"aud an object", with("aud", map[string]any{"push": 1}), "malformed"},
		{"sub missing", with("sub", nil), "bad_claim"},
		{"sub an integer", with("sub", 42), ""},
		{"sub a list", with("sub", []string{"alice"}), "bad_claim"},
		{"sub true", with("sub", true), "bad_claim"},
	}
	v := newVerifier(t, both)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := v.Verify(mint(t, tt.claims))
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if e := refused(t, err); e.Reason.String() != tt.want {
				t.Errorf("got %s (%v), want %s", e.Reason, e, tt.want)
			}
		})
	}
}

func TestVerifyForm(t *testing.T) {
	exp := `"exp":1767358800`
	payload := `{"sub":"alice",` + exp + `}`
	good := sign(plain, payload)
	parts := strings.Split(good, ".")
	tests := []struct{ name, token, want string }{
		{"empty", "", "malformed"},
		{"one part", parts[0], "malformed"},
		{"two parts", parts[0] + "." + parts[1], "malformed"},
		{"four parts", good + ".x", "malformed"},
		{"no header", "." + parts[1] + "." + parts[2], "malformed"},
		{"no payload", parts[0] + ".." + parts[2], "malformed"},
		{"no signature", parts[0] + "." + parts[1] + ".", "malformed"},
		{"padding", good + "=", "malformed"},
		{"line break", good[:len(good)-3] + "\n" + good[len(good)-3:], "malformed"},
		{"standard alphabet", parts[0] + "." + parts[1] + ".++++", "malformed"},
		{"stray bits", good[:len(good)-1] + string(good[len(good)-1]+1), "malformed"},
		{"signature of another payload", parts[0] + "." + b64(`{"sub":"bob",`+exp+`}`) + "." + parts[2], "bad_signature"},
		{"short signature", parts[0] + "." + parts[1] + "." + parts[2][:4], "bad_signature"},
		{"too large", strings.Repeat("a", 8<<10+1), "too_large"},
		{"alg none", sign(`{"alg":"none"}`, payload), "algorithm"},
		{"alg HS512", sign(`{"alg":"HS512"}`, payload), "algorithm"},
		{"alg in another case", sign(`{"alg":"hs256"}`, payload), "algorithm"},
		{"alg missing", sign(`{"typ":"JWT"}`, payload), "algorithm"},
		{"alg under another case", sign(`{"ALG":"HS256"}`, payload), "algorithm"},
		{"crit", sign(`{"alg":"HS256","crit":["x"],"x":1}`, payload), "crit"},
		{"crit escaped", sign(`{"alg":"HS256","cr\u0069t":["x"]}`, payload), "crit"},
		{"empty crit", sign(`{"alg":"HS256","crit":[]}`, payload), "crit"},
		{"b64", sign(`{"alg":"HS256","b64":false}`, payload), "crit"},
		{"b64 true", sign(`{"alg":"HS256","b64":true}`, payload), "crit"},
		{"alg twice", sign(`{"alg":"HS256","alg":"HS256"}`, payload), "malformed"},
		{"header a list", sign(`["HS256"]`, payload), "malformed"},
		{"header not JSON", sign(`{"alg":"HS256"`, payload), "malformed"},
		{"header not UTF-8", sign("{\"alg\":\"HS256\",\"x\":\"\xff\"}", payload), "malformed"},
		{"payload a string", sign(plain, `"alice"`), "malformed"},
		{"payload not JSON", sign(plain, `{`), "malformed"},
		{"payload two values", sign(plain, payload+payload), "malformed"},
		{"payload not UTF-8", sign(plain, "{\"sub\":\"a\xff\","+exp+"}"), "malformed"},
		{"sub twice", sign(plain, `{"sub":"alice","sub":"bob",`+exp+`}`), "malformed"},
		{"sub twice, once escaped", sign(plain, `{"sub":"alice","s\u0075b":"bob",`+exp+`}`), "malformed"},
		{"unknown claim twice", sign(plain, `{"x":1,"sub":"alice",`+exp+`,"x":1}`), "malformed"},
		{"many claims, one twice", sign(plain, `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"m":1}`), "malformed"},
		{"sub in another case", sign(plain, `{"Sub":"alice",`+exp+`}`), "bad_claim"},
		{"exp null", sign(plain, `{"sub":"alice","exp":null}`), "malformed"},
	}
	v := newVerifier(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := v.Verify(tt.token)
			if e := refused(t, err); e.Reason.String() != tt.want {
				t.Errorf("got %s (%v), want %s", e.Reason, e, tt.want)
			}
		})
	}
	for name, token := range map[string]string{
		"as it is":              good,
		"other header members":  sign(`{"kid":"k","typ":"at+jwt","alg":"HS256","x":{"alg":[1,"}"]}}`, payload),
		"spaces and nesting":    sign("\t{ \"alg\" :\r\n\"HS256\" } ", ` { "o" : { "sub" : [ 1, {} , "\"]" ] } , "sub" : "alice" , `+exp+` } `),
		"sub with an escape":    sign(plain, `{"sub":"\u0061lice",`+exp+`}`),
		"empty objects, arrays": sign(plain, `{"a":{},"b":[],"sub":"alice",`+exp+`}`),
	} {
		if id, err := v.Verify(token); err != nil || id.User != "alice" {
			t.Errorf("%s: got %+v, %v", name, id, err)
		}
	}
}

func TestReasons(t *testing.T) {
	labels := map[string]bool{}
	for _, r := range Reasons() {
		labels[r.String()] = true
		if r.Forbidden() != (r == ReasonBadClaim) {
			t.Errorf("%s: forbidden is %v", r, r.Forbidden())
		}
		if m := refuse(r).Error(); !strings.HasSuffix(m, ".") {
			t.Errorf("%s: message %q is not a sentence", r, m)
		}
	}
	if len(labels) != int(reasonCount) || labels[""] {
		t.Errorf("labels are not distinct: %v", labels)
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"short secret", Options{Issuers: []Issuer{{Secret: secret[:31]}}}, "the secret has 31 bytes, but must have at least 32"},
		{"negative leeway", Options{Leeway: -1}, "must not be negative"},
		{"bad template", Options{Issuers: []Issuer{{Secret: secret, Subscriptions: []string{"user.{"}}}}, `subscription "user.{" has a { without a }`},
	}
	for _, tt := range tests {
		if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestMintRefuses(t *testing.T) {
	if _, err := Mint(secret[:8], nil); err == nil || !strings.Contains(err.Error(), "8 bytes") {
		t.Errorf("short secret: got %v", err)
	}
	if _, err := Mint(secret, map[string]any{"f": func() {}}); err == nil {
		t.Error("a function was minted")
	}
}

func TestVerifyConcurrently(t *testing.T) {
	v := newVerifier(t)
	token := mint(t, map[string]any{"sub": "alice", "exp": in(time.Hour)})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if id, err := v.Verify(token); err != nil || id.Subjects[0] != "user.alice" {
					t.Errorf("got %+v, %v", id, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
