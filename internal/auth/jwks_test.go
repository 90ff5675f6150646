package auth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

// patience bounds whatever a test waits for: machines may be slow.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	// Whatever a test says of fetches, none is to fail for being slow.
	fetchTimeout = patience
	goleak.VerifyTestMain(settled{m})
}

// settled gives goroutines that are about to end the time for it on a busy
// machine; goleak itself gives them half a second.
type settled struct{ *testing.M }

func (s settled) Run() int {
	code := s.M.Run()
	for end := time.Now().Add(patience); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// keyServer is a real HTTP server of a key set that can be changed.
type keyServer struct {
	*httptest.Server
	answer   atomic.Pointer[http.HandlerFunc]
	requests atomic.Int64
}

func serveKeys(t testing.TB, body string) *keyServer {
	s := &keyServer{}
	s.set(body)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) set(body string) {
	s.handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) })
}

func (s *keyServer) handle(h http.HandlerFunc) { s.answer.Store(&h) }

// jwk is a key's JSON; more are members that replace its own.
func jwk(t testing.TB, key crypto.PublicKey, kid string, more ...string) string {
	t.Helper()
	// The library demands alg of Ed25519 keys that it writes itself.
	k, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{KID: kid}, Marshal: jwkset.JWKMarshalOptions{Private: true}, Validate: jwkset.JWKValidateOptions{SkipAll: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(k.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]any{}
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	for _, m := range more {
		if err := json.Unmarshal([]byte(m), &members); err != nil {
			t.Fatal(err)
		}
	}
	text, err = json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func jwks(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// fetching is a verifier that fetches its keys, until the test ends.
type fetching struct {
	*Verifier
	mu      sync.Mutex
	notices []KeyNotice
}

func fetch(t testing.TB, url string, change func(*Options)) *fetching {
	t.Helper()
	f := &fetching{}
	o := Options{
		Issuers: []Issuer{{JWKSURL: url, Subscriptions: []string{"user.{sub}"}}}, Leeway: 30 * time.Second, CacheBytes: 1 << 20,
		Now: func() time.Time { return noon },
		Notice: func(n KeyNotice) {
			f.mu.Lock()
			f.notices = append(f.notices, n)
			f.mu.Unlock()
		},
	}
	if change != nil {
		change(&o)
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Verifier = v
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		v.FetchKeys(ctx)
		close(done)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// there waits until the keys are in force, and whoever fetched them is done: they
// are in force a moment before, and what is asked for in it counts to that fetch.
func (f *fetching) there(tb testing.TB) {
	tb.Helper()
	eventually(tb, "the keys are there", func() bool {
		for _, n := range f.told() {
			if n.Err == nil {
				return f.Ready() == nil
			}
		}
		return false
	})
}

// told are the notices so far.
func (f *fetching) told() []KeyNotice {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]KeyNotice(nil), f.notices...)
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("never came true: %s", what)
		}
		pause := time.NewTimer(time.Millisecond)
		<-pause.C
	}
}

// signNamed makes a token of a kind of test key, with a kid unless it is empty.
func signNamed(t testing.TB, kind, algorithm, kid string, which int) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(algorithm), jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)})
	if kid != "" {
		token.Header["kid"] = kid
	}
	signed, err := token.SignedString(testKeys()[kind][which])
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestFetchedKeys(t *testing.T) {
	keys := testKeys()
	s := serveKeys(t, jwks(
		jwk(t, keys["RSA"][0].Public(), "rsa", `{"use":"sig","alg":"RS256"}`),
		jwk(t, keys["RSA"][1].Public(), "rsa-enc", `{"use":"enc"}`),
		jwk(t, keys["P-256"][0].Public(), "ec", `{"key_ops":["verify"]}`),
		jwk(t, keys["P-256"][1].Public(), "ec-wrap", `{"key_ops":["wrapKey"]}`),
		jwk(t, keys["P-384"][0].Public(), "ec384", `{"alg":"ES384"}`),
		jwk(t, keys["Ed25519"][0].Public(), "ed", `{"alg":"EdDSA"}`),
		jwk(t, keys["Ed25519"][1], "ed-private", `{"alg":"EdDSA"}`),
		jwk(t, keys["P-521"][0].Public(), ""),
		`{"kty":"oct","kid":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}`,
		`{"kty":"OKP","crv":"X448","kid":"other","x":"AAAA"}`,
		jwk(t, keys["P-256"][1].Public(), strings.Repeat("k", 129)),
	))
	v := fetch(t, s.URL, nil)
	v.there(t)
	for _, tc := range []struct{ name, token, want string }{
		{"RSA", signNamed(t, "RSA", "RS256", "rsa", 0), "good"},
		{"RSA with another algorithm", signNamed(t, "RSA", "PS256", "rsa", 0), "algorithm"},
		{"RSA by another's name", signNamed(t, "RSA", "RS256", "ec", 0), "algorithm"},
		{"RSA without a name", signNamed(t, "RSA", "RS256", "", 0), "good"},
		{"a key for encryption", signNamed(t, "RSA", "RS256", "rsa-enc", 1), "unknown_key"},
		{"a key for encryption, without a name", signNamed(t, "RSA", "RS256", "", 1), "bad_signature"},
		{"P-256", signNamed(t, "P-256", "ES256", "ec", 0), "good"},
		{"a key for wrapping", signNamed(t, "P-256", "ES256", "ec-wrap", 1), "unknown_key"},
		{"P-384", signNamed(t, "P-384", "ES384", "ec384", 0), "good"},
		{"Ed25519", signNamed(t, "Ed25519", "EdDSA", "ed", 0), "good"},
		{"Ed25519, published with its private part", signNamed(t, "Ed25519", "EdDSA", "ed-private", 1), "good"},
		{"a key without a name", signNamed(t, "P-521", "ES512", "", 0), "good"},
		{"a name of no key", signNamed(t, "P-521", "ES512", "no", 0), "unknown_key"},
		{"a published secret", sign(`{"alg":"HS256","kid":"oct"}`, `{"sub":"alice","exp":1767358800}`), "unknown_key"},
		{"a published secret, without a name", sign(plain, `{"sub":"alice","exp":1767358800}`), "algorithm"},
		{"a long name", signNamed(t, "P-256", "ES256", strings.Repeat("k", 129), 1), "malformed"},
		{"a name with a line break", sign(`{"alg":"HS256","kid":"a\n"}`, `{}`), "malformed"},
		{"a number for a name", sign(`{"alg":"HS256","kid":1}`, `{}`), "malformed"},
		{"an empty name", sign(`{"alg":"HS256","kid":""}`, `{}`), "malformed"},
		{"two names", sign(`{"alg":"HS256","kid":"a","kid":"ec"}`, `{}`), "malformed"},
		{"its own key beside it", sign(`{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/","x5c":["AAAA"]}`, `{}`), "algorithm"},
	} {
		if got := reasonOf(v.Verifier, tc.token); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	if n := v.told(); len(n) != 1 || n[0].Err != nil || n[0].Keys != 6 || n[0].Issuer != s.URL {
		t.Errorf("told %+v", n)
	}
}

func TestFetchedKeysWithNamedAlgorithms(t *testing.T) {
	keys := testKeys()
	s := serveKeys(t, jwks(jwk(t, keys["RSA"][0].Public(), "any"), jwk(t, keys["RSA"][1].Public(), "one", `{"alg":"PS512"}`),
		jwk(t, keys["P-256"][0].Public(), "ec")))
	v := fetch(t, s.URL, func(o *Options) { o.Issuers[0].Algorithms = []string{"PS256", "PS512"} })
	v.there(t)
	for _, tc := range []struct{ token, want string }{
		{signNamed(t, "RSA", "PS256", "any", 0), "good"},
		{signNamed(t, "RSA", "PS512", "any", 0), "good"},
		{signNamed(t, "RSA", "RS256", "any", 0), "algorithm"},
		{signNamed(t, "RSA", "PS512", "one", 1), "good"},
		{signNamed(t, "RSA", "PS256", "one", 1), "algorithm"},
		{signNamed(t, "P-256", "ES256", "ec", 0), "unknown_key"},
	} {
		if got := reasonOf(v.Verifier, tc.token); got != tc.want {
			t.Errorf("%s, want %s", got, tc.want)
		}
	}
}

// waitFor verifies as a handshake does: where a fetch is promised it waits for
// it, once.
func waitFor(v *Verifier, token string) string {
	_, err := v.Verify(token)
	var e *Error
	if errors.As(err, &e) && e.Fetched != nil {
		<-e.Fetched
		_, err = v.Verify(token)
	}
	switch {
	case err == nil:
		return "good"
	case errors.As(err, &e):
		return e.Reason.String()
	}
	return err.Error()
}

func TestRotation(t *testing.T) {
	keys := testKeys()["P-256"]
	s := serveKeys(t, jwks(jwk(t, keys[0].Public(), "old")))
	v := fetch(t, s.URL, func(o *Options) { o.JWKSInterval = time.Hour })
	v.there(t)
	old, fresh := signNamed(t, "P-256", "ES256", "old", 0), signNamed(t, "P-256", "ES256", "new", 1)
	if got := waitFor(v.Verifier, old); got != "good" {
		t.Fatal(got)
	}
	s.set(jwks(jwk(t, keys[1].Public(), "new")))
	// Many at a time: one fetch serves all.
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if got := waitFor(v.Verifier, fresh); got != "good" {
				t.Errorf("a token of the new key: %s", got)
			}
		})
	}
	all.Wait()
	// The old key is gone, although its token stood in the cache.
	if got := waitFor(v.Verifier, old); got != "unknown_key" {
		t.Errorf("a token of the old key: %s", got)
	}
	if n := s.requests.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestUnknownKeyFlood: 10,000 kids that nobody has cause one fetch, and good
// tokens beside them are verified at once, also while that fetch hangs.
func TestUnknownKeyFlood(t *testing.T) {
	keys := testKeys()["P-256"]
	set := jwks(jwk(t, keys[0].Public(), "good"))
	s := serveKeys(t, set)
	v := fetch(t, s.URL, func(o *Options) { o.JWKSInterval = time.Hour })
	v.there(t)
	release, asked := make(chan struct{}), make(chan struct{}, 100)
	s.handle(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		_, _ = fmt.Fprint(w, set)
	})
	signature := strings.Split(signNamed(t, "P-256", "ES256", "good", 0), ".")[2]
	good := signNamed(t, "P-256", "ES256", "good", 0)
	flood := func() {
		for i := range 5000 {
			token := b64(fmt.Sprintf(`{"alg":"ES256","kid":"k%d"}`, i)) + "." + b64(`{"sub":"eve","exp":1767358800}`) + "." + signature
			if got := reasonOf(v.Verifier, token); got != "unknown_key" {
				t.Fatalf("an unknown kid: %s", got)
			}
			if i%100 == 0 {
				if got := reasonOf(v.Verifier, good); got != "good" {
					t.Fatalf("a good token: %s", got)
				}
			}
		}
	}
	flood()
	<-asked
	close(release)
	eventually(t, "the fetch is done", func() bool { return v.Stats().Fetches == 2 })
	flood()
	if n := s.requests.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestStaleKeysStay(t *testing.T) {
	key := testKeys()["P-256"][0]
	s := serveKeys(t, jwks(jwk(t, key.Public(), "k")))
	v := fetch(t, s.URL, func(o *Options) { o.JWKSRefresh = 20 * time.Millisecond })
	v.there(t)
	token := signNamed(t, "P-256", "ES256", "k", 0)
	elsewhere := serveKeys(t, jwks(jwk(t, testKeys()["P-256"][1].Public(), "k")))
	for name, h := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"an error":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "502"},
		"not JSON":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>") }, "decode"},
		"no key":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, jwks()) }, "no public key"},
		"cut short": {func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"keys":[`) }, "too early"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"keys":[{"kty":"`, strings.Repeat("x", 2<<20), `"}]}`)
		}, "too large"},
		"too many": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, jwks(strings.Repeat(jwk(t, key.Public(), "k")+",", 100)+jwk(t, key.Public(), "k")))
		}, "101 keys"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "redirects"},
		"gone":       {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		s.handle(h.answer)
		told := func() (n int, last string) {
			for _, notice := range v.told() {
				if notice.Err != nil {
					n, last = n+1, notice.Err.Error()
				}
			}
			return n, last
		}
		eventually(t, name+" is noticed", func() bool { _, last := told(); return strings.Contains(last, h.want) })
		if got := reasonOf(v.Verifier, token); got != "good" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if n := elsewhere.requests.Load(); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
	if v.Ready() != nil {
		t.Error(v.Ready())
	}
}

// TestKeysThatComeLate: nothing can be said of a token before, readiness says
// why, and it is tried again.
func TestKeysThatComeLate(t *testing.T) {
	s := serveKeys(t, "")
	s.handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	v := fetch(t, s.URL, nil)
	token := signNamed(t, "P-256", "ES256", "k", 0)
	if got := waitFor(v.Verifier, token); got != ErrNoKeys.Error() {
		t.Errorf("without keys: %s", got)
	}
	eventually(t, "readiness says why", func() bool {
		err := v.Ready()
		return err != nil && strings.Contains(err.Error(), s.URL) && strings.Contains(err.Error(), "503")
	})
	s.set(jwks(jwk(t, testKeys()["P-256"][0].Public(), "k")))
	v.there(t)
	if got := waitFor(v.Verifier, token); got != "good" {
		t.Error(got)
	}
}

// TestSameKeysKeepTheCache: a refresh that brings nothing new costs nobody a
// signature.
func TestSameKeysKeepTheCache(t *testing.T) {
	s := serveKeys(t, jwks(jwk(t, testKeys()["Ed25519"][0].Public().(ed25519.PublicKey), "k", `{"alg":"EdDSA"}`)))
	v := fetch(t, s.URL, func(o *Options) { o.JWKSRefresh = 10 * time.Millisecond })
	v.there(t)
	token := signNamed(t, "Ed25519", "EdDSA", "k", 0)
	if got := reasonOf(v.Verifier, token); got != "good" {
		t.Fatal(got)
	}
	before := v.Stats()
	eventually(t, "it is refreshed", func() bool { return v.Stats().Fetches > before.Fetches+3 })
	if got := reasonOf(v.Verifier, token); got != "good" || v.Stats().CacheHits != before.CacheHits+1 {
		t.Errorf("%s, %d hits", got, v.Stats().CacheHits)
	}
	if n := len(v.told()); n != 1 {
		t.Errorf("told %d times", n)
	}
}
