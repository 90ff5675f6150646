package bus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const anyURL = "nats://127.0.0.1:4222"

func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writePair makes a self-signed certificate and its key.
func writePair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		writeFile(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func userSeed(t *testing.T) []byte {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

func TestOptions(t *testing.T) {
	cert, key := writePair(t)
	seed := writeFile(t, "user.nk", userSeed(t))
	tests := []struct {
		name  string
		o     Options
		check func(nats.Options) bool
	}{
		{"name", Options{URL: anyURL, Name: "gw-1"}, func(o nats.Options) bool { return o.Name == "gw-1" && !o.Secure }},
		{"user", Options{URL: anyURL, User: "u", Password: "p"}, func(o nats.Options) bool { return o.User == "u" && o.Password == "p" }},
		{"token", Options{URL: anyURL, Token: "t"}, func(o nats.Options) bool { return o.Token == "t" }},
		{"nkey", Options{URL: anyURL, NKeyFile: seed}, func(o nats.Options) bool { return strings.HasPrefix(o.Nkey, "U") && o.SignatureCB != nil }},
		{"credentials", Options{URL: anyURL, CredsFile: seed}, func(o nats.Options) bool { return o.UserJWT != nil }},
		{"authority", Options{URL: anyURL, TLSCAFile: cert}, func(o nats.Options) bool { return o.Secure && o.RootCAsCB != nil }},
		{"certificate", Options{URL: anyURL, TLSCertFile: cert, TLSKeyFile: key}, func(o nats.Options) bool { return o.Secure && o.TLSCertCB != nil }},
		{"several servers", Options{URL: "nats://a:1, tls://b ,c:3"}, func(nats.Options) bool { return true }},
		{"WebSocket", Options{URL: "ws://a,wss://b"}, func(nats.Options) bool { return true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts, err := tt.o.nats()
			if err != nil {
				t.Fatal(err)
			}
			var got nats.Options
			for _, o := range opts {
				if err := o(&got); err != nil {
					t.Fatal(err)
				}
			}
			if !tt.check(got) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestOptionsRefused(t *testing.T) {
	cert, key := writePair(t)
	_, other := writePair(t)
	none := filepath.Join(t.TempDir(), "none")
	junk := writeFile(t, "junk", []byte("junk"))
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"no URL", Options{URL: " "}, "nats.url is empty"},
		{"empty URL in a list", Options{URL: anyURL + ","}, `nats.url "" is not a URL`},
		{"no host", Options{URL: "nats://:4222"}, `nats.url "nats://:4222" is not a URL like nats://host:4222`},
		{"scheme", Options{URL: "http://u:secret@h"}, `nats.url "http://[redacted]@h" has the scheme "http"`},
		{"broken with a password", Options{URL: "nats://u:sec%ret@h"}, `nats.url "nats://[redacted]@h" is not a URL`},
		{"mixed", Options{URL: "nats://a,ws://b"}, "nats.url mixes ws"},
		{"two logins", Options{URL: anyURL, User: "u", Token: "t"}, "nats.user and nats.token are set"},
		{"password alone", Options{URL: anyURL, Password: "p"}, "nats.password is set, but nats.user is not"},
		{"no credentials file", Options{URL: anyURL, CredsFile: none}, `nats.creds_file "` + none + `" cannot be read: no such file or directory`},
		{"credentials a folder", Options{URL: anyURL, CredsFile: t.TempDir()}, "nats.creds_file"},
		{"no nkey file", Options{URL: anyURL, NKeyFile: none}, "nats.nkey_file"},
		{"nkey junk", Options{URL: anyURL, NKeyFile: junk}, `nats.nkey_file "` + junk + `" holds no user seed`},
		{"no authority", Options{URL: anyURL, TLSCAFile: none}, "nats.tls.ca_file"},
		{"authority junk", Options{URL: anyURL, TLSCAFile: junk}, "holds no PEM certificate"},
		{"certificate alone", Options{URL: anyURL, TLSCertFile: cert}, "must be set together"},
		{"key alone", Options{URL: anyURL, TLSKeyFile: key}, "must be set together"},
		{"no certificate", Options{URL: anyURL, TLSCertFile: none, TLSKeyFile: key}, "nats.tls.cert_file"},
		{"no key", Options{URL: anyURL, TLSCertFile: cert, TLSKeyFile: none}, "nats.tls.key_file"},
		{"no pair", Options{URL: anyURL, TLSCertFile: cert, TLSKeyFile: other}, "are no pair"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.o.Validate()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec%ret")) {
				t.Errorf("the password shows: %v", err)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	tests := map[string]string{
		"":                           "",
		anyURL:                       anyURL,
		"nats://u:p@h:1":             "nats://[redacted]@h:1",
		"nats://token@h":             "nats://[redacted]@h",
		"u:p@h":                      "[redacted]@h",
		"nats://a:b@h1, tls://c:d@h": "nats://[redacted]@h1, tls://[redacted]@h",
		"nats://u:p@ss w@h":          "nats://[redacted]@h",
		`parse "nats://u:p@h": bad`:  `parse "nats://[redacted]@h": bad`,
		`dial u:p@h failed`:          `dial [redacted]@h failed`,
		"nats://h: not u:p but open": "nats://h: not u:p but open",
	}
	for text, want := range tests {
		if got := Redact(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
