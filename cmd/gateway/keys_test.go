package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"pushgate/internal/auth"
)

// keyFile writes a new P-256 key's two files and returns the key and the names
// of its private and public file.
func keyFile(t *testing.T, dir, name string) (key crypto.Signer, private, public string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	private, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	write(t, private, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	write(t, public, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})))
	return k, private, public
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace changes a file at once: who watches it sees nothing in between, about
// which there would be more to say.
func replace(t testing.TB, file, content string) {
	t.Helper()
	write(t, file+".new", content)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestKeyFiles has a gateway verify with a file of keys, which is then changed
// under it: rotated, spoiled, and made good again.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	first, _, public := keyFile(t, dir, "first")
	second, _, secondPublic := keyFile(t, dir, "second")
	g := startGateway(t, "GATEWAY_AUTH_HS256_SECRET=", "GATEWAY_AUTH_PUBLIC_KEY_FILES="+public)

	status := func(key crypto.Signer) int {
		token, err := auth.MintWithKey(key, tokenClaims(&g.cfg.issuers()[0], "alice", time.Now(), time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodGet, "http://"+g.addr.String()+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	// A good token gets as far as hearing that there is no stream.
	const good, bad = http.StatusNotImplemented, http.StatusUnauthorized
	if a, b := status(first), status(second); a != good || b != bad {
		t.Fatalf("at first: %d and %d", a, b)
	}
	content, err := os.ReadFile(secondPublic)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, public, string(content))
	eventually(t, "the new key is used", func() bool { return status(second) == good })
	if got := status(first); got != bad {
		t.Errorf("the old key still gives %d", got)
	}
}

// TestKeysStayWhenAFileIsSpoiled watches a file that becomes nonsense, goes
// away, and comes back with another key.
func TestKeysStayWhenAFileIsSpoiled(t *testing.T) {
	dir := t.TempDir()
	key, _, public := keyFile(t, dir, "key")
	other, _, otherPublic := keyFile(t, dir, "other")
	keys, files, err := openKeyFiles([]IssuerConfig{{PublicKeyFiles: []string{public}}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.New(auth.Options{Issuers: []auth.Issuer{{PublicKeys: keys[0]}}})
	if err != nil {
		t.Fatal(err)
	}
	good := func(key crypto.Signer) bool {
		token, err := auth.MintWithKey(key, map[string]any{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(token)
		return err == nil
	}
	core, logs := observer.New(zap.InfoLevel)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		files[0].watch(v, zap.New(core), stop)
	}()
	defer func() { close(stop); <-ended }()

	replace(t, public, "spoiled")
	eventually(t, "it is logged", func() bool { return logs.FilterLevelExact(zap.ErrorLevel).Len() == 1 })
	if !good(key) {
		t.Error("a spoiled file takes the keys away")
	}
	if err := os.Remove(public); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that is logged too", func() bool { return logs.FilterLevelExact(zap.ErrorLevel).Len() == 2 })
	if !good(key) {
		t.Error("a missing file takes the keys away")
	}
	if err := os.Rename(otherPublic, public); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other key is used", func() bool { return good(other) && !good(key) })
}

func TestKeyFileConfiguration(t *testing.T) {
	dir := t.TempDir()
	_, private, public := keyFile(t, dir, "key")
	_, _, another := keyFile(t, dir, "another")
	for _, tc := range []struct {
		name string
		env  []string
		want string // in the error; empty: it is good
	}{
		{"one file", []string{"GATEWAY_AUTH_PUBLIC_KEY_FILES=" + public}, ""},
		{"two files and a secret", []string{"GATEWAY_AUTH_PUBLIC_KEY_FILES=" + public + "," + another, "GATEWAY_AUTH_HS256_SECRET=" + testSecret}, ""},
		{"its algorithm named", []string{"GATEWAY_AUTH_PUBLIC_KEY_FILES=" + public, "GATEWAY_AUTH_ALGORITHMS=ES256"}, ""},
		{"missing", []string{"GATEWAY_AUTH_PUBLIC_KEY_FILES=" + public + ".no"}, "auth.public_key_files"},
		{"private", []string{"GATEWAY_AUTH_PUBLIC_KEY_FILES=" + private}, "holds a private key"},
		{"an algorithm that fits nothing", []string{"GATEWAY_AUTH_PUBLIC_KEY_FILES=" + public, "GATEWAY_AUTH_ALGORITHMS=RS256"}, "auth.algorithms"},
		{"an unknown algorithm", []string{"GATEWAY_AUTH_HS256_SECRET=" + testSecret, "GATEWAY_AUTH_ALGORITHMS=none"}, "auth.algorithms"},
	} {
		_, _, err := loadConfig(input{env: tc.env})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestTokenWithKeyFile(t *testing.T) {
	dir := t.TempDir()
	_, private, public := keyFile(t, dir, "key")
	env := []string{"GATEWAY_AUTH_PUBLIC_KEY_FILES=" + public}
	got := command(env, nil, "token", "--sub", "alice", "--key-file", private)
	if got.code != 0 || got.errors != "" {
		t.Fatalf("got %+v", got)
	}
	keys, _, err := openKeyFiles([]IssuerConfig{{PublicKeyFiles: []string{public}}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.New(auth.Options{Issuers: []auth.Issuer{{PublicKeys: keys[0]}}})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := v.Verify(strings.TrimSpace(got.out)); err != nil || id.User != "alice" {
		t.Errorf("the token gives %+v, %v", id, err)
	}
	_, foreign, _ := keyFile(t, dir, "foreign")
	if got := command(env, nil, "token", "--sub", "alice", "--key-file", foreign); got.code != 0 || !strings.Contains(got.errors, "refuses this token") {
		t.Errorf("a foreign key gives no warning: %+v", got)
	}
	for name, file := range map[string]string{"missing": private + ".no", "public": public} {
		if got := command(env, nil, "token", "--sub", "alice", "--key-file", file); got.code != 2 || !strings.Contains(got.errors, "--key-file") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestRefusedTokensAreCounted looks at each reason's counter, which stands at
// zero from the start.
func TestRefusedTokensAreCounted(t *testing.T) {
	g := startGateway(t, "GATEWAY_AUTH_AUDIENCE=push")
	ask := func(token string) {
		resp, err := http.Get("http://" + g.addr.String() + "/v1/events?access_token=" + token)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	mint := func(secret string, claims map[string]any) string {
		token, err := auth.Mint([]byte(secret), claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	now := time.Now()
	claims := func(change string, value any) map[string]any {
		c := map[string]any{"sub": "alice", "aud": "push", "exp": now.Add(time.Hour).Unix()}
		c[change] = value
		return c
	}
	for reason, token := range map[string]string{
		"malformed":     "not.a.token",
		"bad_signature": mint(strings.Repeat("x", 32), claims("sub", "alice")),
		"expired":       mint(testSecret, claims("exp", now.Add(-time.Hour).Unix())),
		"lifetime":      mint(testSecret, claims("exp", now.Add(1000*time.Hour).Unix())),
		"audience":      mint(testSecret, claims("aud", "others")),
		"bad_claim":     mint(testSecret, claims("sub", "a.b")),
	} {
		name := `pushgate_token_refusals_total{reason="` + reason + `"}`
		if got := g.metric(name); got != "0" {
			t.Errorf("%s is %s at first", name, got)
		}
		ask(token)
		if got := g.metric(name); got != "1" {
			t.Errorf("%s is %s", name, got)
		}
	}
}
