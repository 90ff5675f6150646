package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testSecret = "0123456789abcdef0123456789abcdef"

func fileWith(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, in input) (*Config, origins) {
	t.Helper()
	cfg, from, err := loadConfig(in)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, from
}

// The contract's table of defaults.
func TestDefaults(t *testing.T) {
	want := &Config{
		Listen: ":8080",
		Admin:  AdminConfig{Listen: "127.0.0.1:9090", DebugListen: "127.0.0.1:6060"},
		NATS:   NATSConfig{URL: "nats://127.0.0.1:4222", Prefix: "push", FlashPrefix: "flash", Interest: "wildcard"},
		Auth: AuthConfig{
			Leeway: 30 * time.Second, MaxLifetime: 24 * time.Hour, TokenBytes: 8 << 10, CacheBytes: 16 << 20,
			JWKSInterval: 10 * time.Second, JWKSRefresh: 5 * time.Minute,
			Carriers: []string{"header", "subprotocol", "query"}, Origins: []string{},
			PublicKeyFiles: []string{}, Algorithms: []string{},
		},
		Subscriptions: []string{"user.{sub}", "broadcast"},
		Limits:        LimitsConfig{HalfOpen: 4096, Subjects: 64, EventBytes: 64 << 10, OutboxBytes: 256 << 10, MessageBytes: 4 << 10, PollBytes: 1 << 20, Heartbeat: 15 * time.Minute, SessionsPerUserPolicy: "replace_oldest"},
		Proxy:         ProxyConfig{Trusted: []string{}},
		Durable:       DurableConfig{MaxAge: 24 * time.Hour, RingBytes: 64 << 20, RepublishPrefix: "pushed"},
		Heartbeat:     time.Minute,
		Compression:   true,
		Flight:        FlightConfig{Events: 8192},
		Drain:         DrainConfig{Delay: 5 * time.Second, Window: 30 * time.Second},
		Log:           LogConfig{Level: "info"},
		Dev:           DevConfig{NATSListen: "127.0.0.1:4222"},
	}
	cfg, from := mustLoad(t, input{})
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
	if len(from) != 0 {
		t.Errorf("origins of defaults: %v", from)
	}

	dev, from := mustLoad(t, input{dev: true})
	if len(dev.Auth.HS256Secret) != 64 || from["auth.hs256_secret"] == "" {
		t.Errorf("dev made the secret %q (%q)", dev.Auth.HS256Secret, from["auth.hs256_secret"])
	}
	again, _ := mustLoad(t, input{dev: true})
	if again.Auth.HS256Secret == dev.Auth.HS256Secret {
		t.Error("dev made the same secret twice")
	}
	want.Durable.Stream, want.Durable.Create = "PUSH", true
	want.Listen, want.Drain, want.Auth.HS256Secret = "127.0.0.1:8080", DrainConfig{Window: time.Second}, dev.Auth.HS256Secret
	if !reflect.DeepEqual(dev, want) {
		t.Errorf("got  %+v\nwant %+v", dev, want)
	}
}

// A value in a file of its own is as good as one that is written out: the later
// source counts.
func TestPrecedenceOfFiles(t *testing.T) {
	one, two := fileWith(t, "one", strings.Repeat("a", 40)), fileWith(t, "two", strings.Repeat("b", 40))
	file := fileWith(t, "gateway.yaml", "auth:\n  hs256_secret_file: "+one+"\n")
	direct := fileWith(t, "direct.yaml", "auth:\n  hs256_secret: "+strings.Repeat("a", 40)+"\n")
	for name, in := range map[string]input{
		"environment over file's file": {file: file, env: []string{"GATEWAY_AUTH_HS256_SECRET=" + strings.Repeat("b", 40)}},
		"environment's file over file": {file: direct, env: []string{"GATEWAY_AUTH_HS256_SECRET_FILE=" + two}},
		"flag's file over all": {file: file, env: []string{"GATEWAY_AUTH_HS256_SECRET=" + strings.Repeat("c", 40)},
			flags: map[string][]string{"auth.hs256_secret_file": {two}}},
		"an empty variable beside a file": {env: []string{"GATEWAY_AUTH_HS256_SECRET=", "GATEWAY_AUTH_HS256_SECRET_FILE=" + two}},
	} {
		cfg, from := mustLoad(t, in)
		if cfg.Auth.HS256Secret != strings.Repeat("b", 40) || from["auth.hs256_secret"] == "" {
			t.Errorf("%s: %q from %q", name, cfg.Auth.HS256Secret, from["auth.hs256_secret"])
		}
	}
}

func TestPrecedence(t *testing.T) {
	file := fileWith(t, "gateway.yaml", `
listen: ":1"
heartbeat: 10s
loops: 3
subscriptions: [a, "b.{sub}"]
auth:
  issuer:
  leeway: 0
limits:
  event_bytes: 1000
  outbox_bytes: 1MiB
nats:
  tls:
`)
	env := []string{
		"PATH=/bin", "GATEWAY_CONFIG=" + file, "GATEWAY_TOKEN=x",
		"GATEWAY_HEARTBEAT=20s", "GATEWAY_LOOPS=4", "GATEWAY_AUTH_ORIGINS=https://a.example, https://b.example:8443",
		"GATEWAY_ADMIN_DEBUG_LISTEN=",
		// What Kubernetes sets for a service named gateway.
		"GATEWAY_SERVICE_HOST=10.0.0.1", "GATEWAY_SERVICE_PORT=80", "GATEWAY_SERVICE_PORT_HTTP=80",
		"GATEWAY_PORT=tcp://10.0.0.1:80", "GATEWAY_PORT_80_TCP=tcp://10.0.0.1:80", "GATEWAY_PORT_80_TCP_ADDR=10.0.0.1",
		"GATEWAY_ADMIN_SERVICE_HOST=10.0.0.2", "GATEWAY_ADMIN_PORT=tcp://10.0.0.2:9090",
	}
	flags := map[string][]string{"loops": {"5"}, "nats.prefix": {"p.q"}, "auth.carriers": {"header", "query"}}
	cfg, from := mustLoad(t, input{env: env, flags: flags})
	if cfg.Listen != ":1" || cfg.Heartbeat != 20*time.Second || cfg.Loops != 5 || cfg.NATS.Prefix != "p.q" ||
		cfg.Limits.EventBytes != 1000 || cfg.Limits.OutboxBytes != 1<<20 || cfg.Auth.Leeway != 0 || cfg.Admin.DebugListen != "" ||
		!slices.Equal(cfg.Auth.Origins, []string{"https://a.example", "https://b.example:8443"}) ||
		!slices.Equal(cfg.Auth.Carriers, []string{"header", "query"}) ||
		!slices.Equal(cfg.Subscriptions, []string{"a", "b.{sub}"}) || cfg.Limits.HalfOpen != 4096 {
		t.Errorf("got %+v", cfg)
	}
	for key, want := range map[string]string{
		"listen":    "file " + file,
		"heartbeat": "environment variable GATEWAY_HEARTBEAT",
		"loops":     "flag --loops",
	} {
		if from[key] != want {
			t.Errorf("%s: got origin %q, want %q", key, from[key], want)
		}
	}
	// --config wins over GATEWAY_CONFIG.
	cfg, _ = mustLoad(t, input{env: env[:2], file: fileWith(t, "other.yaml", "listen: ':2'\n")})
	if cfg.Listen != ":2" || cfg.Loops != 0 {
		t.Errorf("got %+v", cfg)
	}
	// An empty file is no mistake.
	mustLoad(t, input{file: fileWith(t, "empty.yaml", "# nothing\n")})
}

func TestSecretFiles(t *testing.T) {
	path := fileWith(t, "secret", testSecret+"\r\n")
	cfg, from := mustLoad(t, input{env: []string{"GATEWAY_AUTH_HS256_SECRET_FILE=" + path, "GATEWAY_NATS_USER=u"},
		flags: map[string][]string{"nats.password_file": {fileWith(t, "p", " p \n")}}})
	if cfg.Auth.HS256Secret != testSecret || cfg.NATS.Password != " p " {
		t.Errorf("got %q and %q", cfg.Auth.HS256Secret, cfg.NATS.Password)
	}
	if from["auth.hs256_secret"] != "environment variable GATEWAY_AUTH_HS256_SECRET_FILE" {
		t.Errorf("got origin %q", from["auth.hs256_secret"])
	}
	// The file's value counts as given in dev too.
	cfg, _ = mustLoad(t, input{dev: true, flags: map[string][]string{"auth.hs256_secret_file": {path}}})
	if cfg.Auth.HS256Secret != testSecret {
		t.Errorf("got %q", cfg.Auth.HS256Secret)
	}
}

// The table itself: each line can be used.
func TestSchema(t *testing.T) {
	spelled := map[string]string{}
	for _, k := range keys().keys {
		if k.help() == "" || strings.HasSuffix(k.help(), ".") {
			t.Errorf("%s: help %q is not one phrase", k.name, k.help())
		}
		if k.object != nil {
			if keys().byEnv[k.env()] != nil {
				t.Errorf("%s has a variable", k.name)
			}
			continue
		}
		if back := keys().byEnv[k.env()]; back != k {
			t.Errorf("%s shares its variable %s", k.name, k.env())
		}
		for _, name := range append(k.aliases(), k.name) {
			if other := spelled[name]; other != "" {
				t.Errorf("--%s is %s and %s", name, k.name, other)
			}
			spelled[name] = k.name
		}
		if serviceLink.MatchString(k.env() + "=x") {
			t.Errorf("%s looks like a variable of Kubernetes", k.env())
		}
		for _, dev := range []bool{false, true} {
			if _, err := k.parse(k.def(dev)); err != nil && k.fileOf == nil {
				t.Errorf("%s: default %q %v", k.name, k.def(dev), err)
			}
		}
	}
	if k := keys().byName["auth.hs256_secret"]; k.env() != "GATEWAY_AUTH_HS256_SECRET" ||
		!slices.Equal(k.aliases(), []string{"auth.hs256-secret", "auth-hs256-secret"}) {
		t.Errorf("got %s, %v", k.env(), k.aliases())
	}
	if keys().byName["listen"].aliases() != nil {
		t.Error("listen has aliases")
	}
}

func TestSize(t *testing.T) {
	for s, want := range map[string]Size{"0": 0, "512": 512, "512B": 512, "64KiB": 64 << 10, "1MiB": 1 << 20, "2GiB": 2 << 30} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%q: got %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "KiB", "-1", "1.5MiB", "64KB", "64K", "64kib", "1 MiB", "1MiBB", "9223372036854775807GiB", "9223372036854775808", "1e3"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q: got %d", s, got)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		size := Size(rapid.Int64Min(0).Draw(rt, "size"))
		if back, err := ParseSize(size.String()); err != nil || back != size {
			rt.Fatalf("%d is written %q and read %d, %v", size, size, back, err)
		}
	})
}

func TestDidYouMean(t *testing.T) {
	names := []string{"auth.hs256_secret", "auth.issuer", "limits.sessions", "listen"}
	for word, want := range map[string]string{
		"auth.hs265_secret": ", did you mean auth.hs256_secret?",
		"listn":             ", did you mean listen?",
		"hs256_secret":      ", did you mean auth.hs256_secret?",
		"issuer":            ", did you mean auth.issuer?",
		"zzzzzzzz":          "",
	} {
		if got := didYouMean(word, names); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.StringMatching(`[a-c]{0,6}`)
		a, b, c := word.Draw(rt, "a"), word.Draw(rt, "b"), word.Draw(rt, "c")
		if distance(a, b) != distance(b, a) || (distance(a, b) == 0) != (a == b) || distance(a, c) > distance(a, b)+distance(b, c) {
			rt.Fatalf("%q %q %q: no distance", a, b, c)
		}
	})
}

func isConfigError(err error) bool {
	var config *configError
	return errors.As(err, &config)
}

const tenantsFile = `
subscriptions: ["{issuer}.user.{sub}", "{issuer}.all"]
auth:
  issuers:
    - name: red
      issuer: https://red.example
      audience: push
      hs256_secret_file: SECRET
      grant_ceiling: ["{issuer}.rooms.>"]
    - name: blue
      issuer: https://blue.example
      jwks_url: https://blue.example/jwks.json
      algorithms: [RS256, ES256]
      subscriptions: ["sky.{sub}"]
`

func TestIssuers(t *testing.T) {
	secret := fileWith(t, "red", testSecret+"\n")
	file := fileWith(t, "gateway.yaml", strings.ReplaceAll(tenantsFile, "SECRET", secret))
	cfg, _ := mustLoad(t, input{file: file})
	want := []IssuerConfig{
		{Name: "red", Issuer: "https://red.example", Audience: "push", HS256Secret: testSecret,
			Subscriptions: []string{"{issuer}.user.{sub}", "{issuer}.all"}, GrantCeiling: []string{"{issuer}.rooms.>"}},
		{Name: "blue", Issuer: "https://blue.example", JWKSURL: "https://blue.example/jwks.json",
			Algorithms: []string{"RS256", "ES256"}, Subscriptions: []string{"sky.{sub}"}},
	}
	if got := cfg.issuers(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := needKey(cfg); err != nil {
		t.Error(err)
	}
	got := command(nil, nil, "check", "--config", file)
	if got.code != 0 || strings.Contains(got.out, testSecret) {
		t.Errorf("check says %+v", got)
	}
	for _, line := range []string{"hs256_secret: '[redacted]'", "name: red", "jwks_url: https://blue.example/jwks.json", "grant_ceiling: ['{issuer}.rooms.>']"} {
		if !strings.Contains(got.out, line) {
			t.Errorf("check does not print %q:\n%s", line, got.out)
		}
	}
	// In dev they stand instead of the secret that it would make.
	dev, _ := mustLoad(t, input{dev: true, file: file})
	if dev.Auth.HS256Secret != "" {
		t.Error("dev made a secret beside the issuers")
	}
	token := command(nil, nil, "token", "--config", file, "--sub", "alice", "--issuer", "red")
	if token.code != 0 || token.errors != "" {
		t.Errorf("a token of red: %+v", token)
	}
	for _, args := range [][]string{{"--sub", "alice"}, {"--sub", "alice", "--issuer", "green"}} {
		if got := command(nil, nil, append([]string{"token", "--config", file}, args...)...); got.code != 2 || !strings.Contains(got.errors, "red, blue") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
