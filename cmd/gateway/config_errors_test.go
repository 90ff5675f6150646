package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// Each mistake is one sentence with key, value and source, and exit code 2.
func TestConfigErrors(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	short := fileWith(t, "short", "hush\n")
	empty := fileWith(t, "empty", "\n")
	tests := []struct {
		name  string
		file  string // content
		env   string
		flags map[string][]string
		want  string // FILE stands for the file's path
	}{
		{name: "unknown key", file: "auth:\n  hs265_secret: x\n", want: `unknown key "auth.hs265_secret", did you mean auth.hs256_secret? (file FILE)`},
		{name: "unknown key of nothing", file: "zzzzzzzzz: 1\n", want: `unknown key "zzzzzzzzz" (file FILE)`},
		{name: "unknown key without a value", file: "listn:\n", want: `unknown key "listn", did you mean listen? (file FILE)`},
		{name: "dotted key", file: "auth.issuer: x\n", want: `unknown key "auth.issuer": write each part of a name on a line of its own, indented below the one before it (file FILE)`},
		{name: "section is a value", file: "auth: x\n", want: `auth must be a section with keys below it (file FILE)`},
		{name: "value is a section", file: "listen:\n  a: b\n", want: `listen must be one value (file FILE)`},
		{name: "number for text", file: "listen: 8080\n", want: `listen "8080" must be text: put it in quotes (file FILE)`},
		{name: "secret as a number", file: "auth:\n  hs256_secret: 12345678\n", want: `auth.hs256_secret must be text: put it in quotes (file FILE)`},
		{name: "list of numbers", file: "subscriptions: [1]\n", want: `subscriptions must be a list of texts: put each in quotes (file FILE)`},
		{name: "number for a list", file: "subscriptions: 1\n", want: `subscriptions "1" must be a list (file FILE)`},
		{name: "time without unit", file: "heartbeat: 30\n", want: `heartbeat "30" is not a time like 30s, 5m or 24h (file FILE)`},
		{name: "not YAML", file: "listen: [\n", want: `the configuration file "FILE" cannot be read: yaml:`},
		{name: "a secret for a file", file: testSecret + "\n", want: `the configuration file "FILE" cannot be read: it must hold keys and values, like "listen: :8080"`},
		{name: "key twice", file: "listen: ':1'\nlisten: ':2'\n", want: `the configuration file "FILE" cannot be read: line 2: mapping key "listen" already defined at line 1`},
		{name: "two documents", file: "listen: ':1'\n---\nlisten: ':2'\n", want: `the configuration file "FILE" cannot be read: it holds more than one YAML document`},
		{name: "missing file", env: "GATEWAY_CONFIG=" + none, want: `the configuration file "` + none + `" cannot be read: no such file or directory`},

		{name: "unknown variable", env: "GATEWAY_LISTN=:1", want: `unknown environment variable GATEWAY_LISTN, did you mean GATEWAY_LISTEN?`},
		{name: "port that is no service's", env: "GATEWAY_PORT=8080", want: `unknown environment variable GATEWAY_PORT`},
		{name: "not a number", env: "GATEWAY_LOOPS=many", want: `loops "many" is not a whole number (environment variable GATEWAY_LOOPS)`},
		{name: "empty number", env: "GATEWAY_LOOPS=", want: `loops "" is not a whole number (environment variable GATEWAY_LOOPS)`},
		{name: "not a time", env: "GATEWAY_HEARTBEAT=60", want: `heartbeat "60" is not a time like 30s, 5m or 24h (environment variable GATEWAY_HEARTBEAT)`},
		{name: "not a size", env: "GATEWAY_LIMITS_EVENT_BYTES=64KB", want: `limits.event_bytes "64KB" is not a size like 512, 64KiB or 1MiB (environment variable GATEWAY_LIMITS_EVENT_BYTES)`},
		{name: "empty element", env: "GATEWAY_SUBSCRIPTIONS=a,,b", want: `subscriptions "a,,b" has an empty element (environment variable GATEWAY_SUBSCRIPTIONS)`},
		{name: "element twice", env: "GATEWAY_AUTH_CARRIERS=query,query", want: `auth.carriers "query,query" has "query" twice (environment variable GATEWAY_AUTH_CARRIERS)`},

		{name: "below the range", flags: flag("heartbeat", "999ms"), want: `heartbeat "999ms" must be at least 1s (flag --heartbeat)`},
		{name: "above the range", flags: flag("heartbeat", "61m"), want: `heartbeat "61m" must be at most 1h (flag --heartbeat)`},
		{name: "negative", flags: flag("limits.sessions", "-1"), want: `limits.sessions "-1" must be at least 0 (flag --limits.sessions)`},
		{name: "not in the enum", flags: flag("nats.interest", "all"), want: `nats.interest "all" must be wildcard or exact (flag --nats.interest)`},
		{name: "not in the list's enum", flags: flag("auth.carriers", "body"), want: `auth.carriers "body" must be a list of header, subprotocol, query and cookie (flag --auth.carriers)`},
		{name: "cookie without a name", flags: flag("auth.carriers", "cookie"), want: `auth.carriers "cookie" holds cookie, but auth.cookie_name does not say which (flag --auth.carriers)`},
		{name: "cookie without origins", env: "GATEWAY_AUTH_COOKIE_NAME=session", flags: flag("auth.carriers", "cookie"), want: `auth.carriers "cookie" holds cookie, which needs auth.origins to name the pages`},
		{name: "cookie for any origin", env: "GATEWAY_AUTH_COOKIE_NAME=session", flags: map[string][]string{"auth.carriers": {"cookie"}, "auth.origins": {"*"}}, want: `holds cookie, which needs auth.origins to name the pages that may use it, without *`},
		{name: "no cookie's name", flags: flag("auth.cookie_name", "a b"), want: `auth.cookie_name "a b" cannot be the name of a cookie`},
		{name: "no network", flags: flag("proxy.trusted", "10.0.0.0/33"), want: `proxy.trusted "10.0.0.0/33" holds "10.0.0.0/33", which is no network like 10.0.0.0/8 and no address (flag --proxy.trusted)`},
		{name: "http key set", flags: flag("auth.jwks_url", "http://id.example/keys"), want: `auth.jwks_url "http://id.example/keys" cannot be used: the JWKS URL must be https`},
		{name: "key set and secret", env: "GATEWAY_AUTH_HS256_SECRET=" + testSecret, flags: flag("auth.jwks_url", "https://id.example/keys"), want: `auth.jwks_url "https://id.example/keys" cannot stand beside auth.hs256_secret`},
		{name: "{issuer} without issuers", env: "GATEWAY_AUTH_HS256_SECRET=" + testSecret, flags: flag("subscriptions", "{issuer}.x"), want: `has {issuer}, but its issuer has no name`},
		{name: "issuers in the environment", env: "GATEWAY_AUTH_ISSUERS=a", want: `environment variable GATEWAY_AUTH_ISSUERS: lists of objects exist in the configuration file only`},
		{name: "issuers no list", file: "auth:\n  issuers: {name: a}\n", want: `auth.issuers must be a list of objects, each behind a dash (file FILE)`},
		{name: "issuer no object", file: "auth:\n  issuers: [a]\n", want: `auth.issuers [0] must be an object with keys and values (file FILE)`},
		{name: "issuer's unknown key", file: "auth:\n  issuers:\n    - name: a\n      jwks_ulr: x\n", want: `auth.issuers [0]: unknown key "jwks_ulr", did you mean jwks_url?`},
		{name: "issuer's bad value", file: "auth:\n  issuers:\n    - name: a\n    - algorithms: [none]\n", want: `auth.issuers [1]: algorithms must be a list of`},
		{name: "issuer's bad secret", file: "auth:\n  issuers:\n    - {name: a, issuer: a, hs256_secret: hush}\n", want: `auth.issuers cannot be used: issuer a: the secret has 4 bytes, but must have at least 32 (file FILE)`},
		{name: "issuer's two secrets", file: "auth:\n  issuers:\n    - {name: a, issuer: a, hs256_secret: hush, hs256_secret_file: " + short + "}\n", want: `auth.issuers [0]: hs256_secret and hs256_secret_file are both set: keep one`},
		{name: "issuer's missing secret file", file: "auth:\n  issuers:\n    - {name: a, hs256_secret_file: " + none + "}\n", want: `auth.issuers [0]: hs256_secret_file "` + none + `" cannot be read: no such file or directory`},
		{name: "issuers that meet", file: "auth:\n  issuers:\n    - {name: a, issuer: a, hs256_secret: " + testSecret + "}\n    - {name: b, issuer: b, hs256_secret: " + testSecret + "}\n", want: `auth.issuers cannot be used: the issuers a and b could meet on a subject: user.* and user.* overlap`},
		{name: "issuers and a secret", env: "GATEWAY_AUTH_HS256_SECRET=" + testSecret, file: "auth:\n  issuers:\n    - {name: a, jwks_url: https://a.example/}\n", want: `auth.issuers cannot stand beside auth.hs256_secret: say it of one of the issuers (file FILE)`},
		{name: "given twice", flags: flag("loops", "1", "2"), want: `flag --loops is given 2 times`},
		{name: "no carriers", flags: flag("auth.carriers", ""), want: `auth.carriers "" is empty: no client could bring a token (flag --auth.carriers)`},
		{name: "not an address", flags: flag("listen", "8080"), want: `listen "8080" is not an address like :8080 or 127.0.0.1:8080 (flag --listen)`},
		{name: "port too large", flags: flag("admin.listen", ":65536"), want: `admin.listen ":65536" is not an address`},
		{name: "port by name", flags: flag("dev.nats_listen", ":nats"), want: `dev.nats_listen ":nats" is not an address`},
		{name: "admin on the public port", flags: flag("listen", "127.0.0.1:9090"), want: `admin.listen "127.0.0.1:9090" must not be the public address of listen`},
		{name: "root with a wildcard", flags: flag("nats.prefix", "push.*"), want: `nats.prefix "push.*" is not a subject: tokens joined by dots, without wildcards (flag --nats.prefix)`},
		{name: "root of the server", flags: flag("nats.prefix", "$SYS"), want: `nats.prefix "$SYS" begins with a name that NATS or the gateway uses itself`},
		{name: "overlapping roots", flags: flag("nats.flash_prefix", "push.flash"), want: `nats.flash_prefix "push.flash" must not overlap nats.prefix "push"`},
		{name: "NATS scheme", flags: flag("nats.url", "http://u:hush@h"), want: `nats.url "http://[redacted]@h" has the scheme "http"`},
		{name: "NATS login", flags: map[string][]string{"nats.user": {"u"}, "nats.token": {"hush"}}, want: `nats.user and nats.token are set`},
		{name: "NATS file", flags: flag("nats.creds_file", none), want: `nats.creds_file "` + none + `" cannot be read`},
		{name: "origin with a path", flags: flag("auth.origins", "https://a.example/"), want: `auth.origins "https://a.example/" holds "https://a.example/", which is neither * nor an origin like https://app.example.com (flag --auth.origins)`},
		{name: "origin without a scheme", flags: flag("auth.origins", "a.example"), want: `which is neither * nor an origin`},
		{name: "origin with its own port", flags: flag("auth.origins", "https://a.example:443"), want: `which is neither * nor an origin`},
		{name: "origin with a wildcard", flags: flag("auth.origins", "https://*.example"), want: `which is neither * nor an origin`},
		{name: "template", flags: flag("subscriptions", "user.{sub"), want: `subscriptions "user.{sub" cannot be used: subscription "user.{sub" has a { without a } (flag --subscriptions)`},
		{name: "short secret", flags: flag("auth.hs256_secret", "hush"), want: `auth.hs256_secret has 4 bytes, but must have at least 32 (flag --auth.hs256_secret)`},
		{name: "short secret in a file", flags: flag("auth.hs256_secret_file", short), want: `auth.hs256_secret has 4 bytes, but must have at least 32 (flag --auth.hs256_secret_file)`},
		{name: "no secret file", flags: flag("auth.hs256_secret_file", none), want: `auth.hs256_secret_file "` + none + `" cannot be read: no such file or directory (flag --auth.hs256_secret_file)`},
		{name: "empty secret file", flags: flag("nats.token_file", empty), want: `nats.token_file "` + empty + `" is an empty file (flag --nats.token_file)`},
		{
			name:  "secret and its file",
			flags: map[string][]string{"auth.hs256_secret": {testSecret}, "auth.hs256_secret_file": {short}},
			want:  `auth.hs256_secret (flag --auth.hs256_secret) and auth.hs256_secret_file (flag --auth.hs256_secret_file) are both set: keep one`,
		},
		{name: "NATS credentials of another kind", flags: flag("nats.creds_file", short), want: `nats.creds_file "` + short + `" holds no user's JWT and seed`},
		{name: "NATS port", flags: flag("nats.url", "nats://a:99999"), want: `nats.url "nats://a:99999" has the port 99999: it must be 1 to 65535`},
		{name: "key set with a password", flags: flag("auth.jwks_url", "ftp://u:hush@x/y"), want: `auth.jwks_url "ftp://[redacted]@x/y"`},
		{name: "secret that YAML takes for an alias", file: "auth:\n  hs256_secret: *hush\n", want: `a value that begins with * must stand in quotes`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := input{flags: tt.flags, env: []string{tt.env}}
			if tt.file != "" {
				in.file = fileWith(t, "gateway.yaml", tt.file)
			}
			_, _, err := loadConfig(in)
			if err == nil {
				t.Fatal("accepted")
			}
			want := strings.ReplaceAll(tt.want, "FILE\"", in.file+"\"")
			want = strings.ReplaceAll(want, "(file FILE)", "(file "+in.file+")")
			if !strings.Contains(err.Error(), want) || !isConfigError(err) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			for _, secret := range []string{"hush", testSecret, "12345678", "\n"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q shows in %v", secret, err)
				}
			}
		})
	}
}

func flag(key string, values ...string) map[string][]string {
	return map[string][]string{key: values}
}
