package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"pushgate/internal/auth"
)

const secretVariable = "GATEWAY_AUTH_HS256_SECRET=" + testSecret

// outcome is what run left behind.
type outcome struct {
	code        int
	out, errors string
}

func command(env []string, stdin io.Reader, args ...string) outcome {
	var out, errs bytes.Buffer
	code := run(args, env, stdin, &out, &errs)
	return outcome{code, out.String(), errs.String()}
}

func TestExitCodes(t *testing.T) {
	tests := []struct {
		name string
		args string
		env  []string
		code int
		want string // in standard error, or in standard output for 0
	}{
		{name: "help", args: "--help", want: "gateway pub push.user.alice"},
		{name: "help of a command", args: "serve --help", want: "--auth.hs256_secret_file=FILE"},
		{name: "dev has its own defaults", args: "dev --help", want: "[127.0.0.1:8080]"},
		{name: "version", args: "version", want: "go1."},
		{name: "nothing", code: 2, want: `expected one of "dev"`},
		{name: "unknown command", args: "sevre", code: 2, want: "sevre"},
		{name: "unknown flag", args: "check --lisen :1", code: 2, want: "unknown flag --lisen"},
		{name: "configuration flag where none is needed", args: "version --listen :1", code: 2, want: "unknown flag --listen"},
		{name: "bad flag", args: "serve --listen x", env: []string{secretVariable}, code: 2, want: `listen "x" is not an address`},
		{name: "bad variable", args: "pub a b", env: []string{"GATEWAY_X=1"}, code: 2, want: "unknown environment variable GATEWAY_X"},
		{name: "serve without a key", args: "serve", code: 2, want: "there is no key to verify tokens with: set auth.hs256_secret"},
		{name: "check without a key", args: "check", code: 2, want: "there is no key to verify tokens with"},
		{name: "check for dev", args: "check --dev", want: "# made for this run"},
		{name: "token without a secret", args: "token --sub alice", code: 2, want: "set GATEWAY_AUTH_HS256_SECRET or --auth.hs256_secret"},
		{name: "token without a user", args: "token", env: []string{secretVariable}, code: 2, want: "--sub"},
		{name: "token with a bad claim", args: "token --sub a --claim team", env: []string{secretVariable}, code: 2, want: `--claim "team" is not a name and a value`},
		{name: "token with sub as claim", args: "token --sub a --claim sub=b", env: []string{secretVariable}, code: 2, want: "use --sub for sub"},
		{name: "token with a claim twice", args: "token --sub a --claim x=1 --claim x=2", env: []string{secretVariable}, code: 2, want: `--claim "x" is given twice`},
		{name: "token that is over at once", args: "token --sub a --ttl 0s", env: []string{secretVariable}, code: 2, want: "--ttl 0s must be at least 1s"},
		{name: "pub without data", args: "pub push.a", code: 2, want: "<data>"},
		{name: "pub with a bad header", args: "pub push.a x -H nope", code: 2, want: `--header "nope" is not a name and a value`},
		{name: "pub with a header twice", args: "pub push.a x -H a:1 -H a:2", code: 2, want: `--header "a" is given twice`},
		{name: "pub to a wildcard", args: "pub push.* x", code: 2, want: `"push.*" is not a subject to publish to`},
		{name: "tail without a token", args: "tail", code: 2, want: "there is no token: give --token or GATEWAY_TOKEN"},
		{name: "tail with two tokens", args: "tail --token x --sub a", code: 2, want: "--token and --sub are both given"},
		{name: "tail without a secret", args: "tail --sub a", code: 2, want: "there is no secret to sign with"},
		{name: "tail to a page", args: "tail --token x --url http://h", code: 2, want: "--url is not a WebSocket URL"},
		{name: "tail of fewer than none", args: "tail --token x --count=-1", code: 2, want: "--count -1 must not be negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := command(tt.env, nil, strings.Fields(tt.args)...)
			said := got.errors
			if tt.code == 0 {
				said = got.out
			}
			if got.code != tt.code || !strings.Contains(said, tt.want) {
				t.Errorf("got %+v, want %d and %q", got, tt.code, tt.want)
			}
			if tt.code != 0 && got.out != "" && tt.args != "check" { // which shows what is in force all the same
				t.Errorf("standard output holds %q", got.out)
			}
		})
	}
}

// The three spellings of a flag.
func TestFlagAliases(t *testing.T) {
	for _, flag := range []string{"--limits.event_bytes", "--limits.event-bytes", "--limits-event-bytes"} {
		got := command([]string{secretVariable}, nil, "check", flag, "2KiB")
		if got.code != 0 || !strings.Contains(got.out, "event_bytes: 2KiB # flag --limits.event_bytes\n") {
			t.Errorf("%s: got %+v", flag, got)
		}
	}
	// A list may be given in pieces.
	got := command([]string{secretVariable}, nil, "check", "--subscriptions", "a", "--subscriptions=b,c.{sub}")
	if !strings.Contains(got.out, "subscriptions: [a, b, 'c.{sub}'] # flag --subscriptions\n") {
		t.Errorf("got %+v", got)
	}
}

func TestCheck(t *testing.T) {
	file := fileWith(t, "gateway.yaml", "nats:\n  password: hush-1\n  user: me\nheartbeat: 90s\n")
	got := command([]string{secretVariable, "GATEWAY_CONFIG=" + file}, nil, "check", "--nats.url", "nats://u:hush-2@a:1,nats://b:2")
	if got.code != 0 || got.errors != "" {
		t.Fatalf("got %+v", got)
	}
	for _, secret := range []string{testSecret, "hush"} {
		if strings.Contains(got.out, secret) {
			t.Errorf("%q shows in\n%s", secret, got.out)
		}
	}
	for _, want := range []string{
		"hs256_secret: '[redacted]' # environment variable GATEWAY_AUTH_HS256_SECRET\n",
		"password: '[redacted]' # file " + file + "\n",
		"token: \"\"\n",
		"url: nats://[redacted]@a:1,nats://b:2 # flag --nats.url\n",
		"heartbeat: 90s # file " + file + "\n",
		"max_lifetime: 24h\n",
		"  store_dir: \"\"\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not in\n%s", want, got.out)
		}
	}
	// What is printed is itself a configuration, but for what is redacted.
	var printed map[string]any
	if err := yaml.Unmarshal([]byte(got.out), &printed); err != nil {
		t.Fatal(err)
	}
	var clean []string
	for line := range strings.Lines(got.out) {
		if !strings.Contains(line, "[redacted]") {
			clean = append(clean, line)
		}
	}
	cfg, _ := mustLoad(t, input{file: fileWith(t, "printed.yaml", strings.Join(clean, ""))})
	if cfg.Heartbeat != 90*time.Second || cfg.NATS.User != "me" || !slices.Equal(cfg.Subscriptions, []string{"user.{sub}", "broadcast"}) {
		t.Errorf("read back %+v", cfg)
	}
}

// Where a list of objects comes from stands at its own key, and what is in force
// is shown also where a key to verify tokens with is still missing.
func TestCheckShows(t *testing.T) {
	file := fileWith(t, "gateway.yaml", "slow_consumers:\n  - {subject: prices.>, policy: latest}\n")
	got := command(nil, nil, "check", "--config", file)
	if got.code != 2 || !strings.Contains(got.errors, "auth.hs256_secret") {
		t.Errorf("got %+v", got)
	}
	for _, want := range []string{"slow_consumers: # file " + file + "\n", "\nheartbeat: 60s\n", "\n  max_age: 24h\n"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not in\n%s", want, got.out)
		}
	}
}

func TestToken(t *testing.T) {
	env := []string{secretVariable, "GATEWAY_AUTH_ISSUER=https://id.example", "GATEWAY_AUTH_AUDIENCE=push",
		"GATEWAY_SUBSCRIPTIONS=user.{sub},room.{rooms},n.{n},org.{org.id}"}
	got := command(env, nil, "token", "--sub", "alice", "--ttl", "5m",
		"--claim", `rooms=["a","b"]`, "--claim", "n=90071992547409931", "--claim", `org={"id":"x=y;z,w"}`)
	if got.code != 0 || got.errors != "" || strings.Count(got.out, "\n") != 1 {
		t.Fatalf("got %+v", got)
	}
	cfg, _ := mustLoad(t, input{env: env})
	verifier, err := auth.New(cfg.authOptions(nil))
	if err != nil {
		t.Fatal(err)
	}
	id, err := verifier.Verify(strings.TrimSpace(got.out))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"user.alice", "room.a", "room.b", "n.90071992547409931", "org.x=y;z,w"}
	if id.User != "alice" || !slices.Equal(id.Subjects, want) || id.Expires-id.Issued != 300 {
		t.Errorf("got %+v, want %q", id, want)
	}
}

// A token that the gateway would refuse is made, and said to be so.
func TestTokenWarns(t *testing.T) {
	got := command([]string{secretVariable}, nil, "token", "--sub", "a.b", "--claim", "x=not json")
	if got.code != 0 || !strings.Contains(got.errors, "refuses this token: The token's claim sub cannot be a user") {
		t.Errorf("got %+v", got)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(got.out, ".")[1])
	var claims map[string]any
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims["x"] != "not json" {
		t.Errorf("claims are %s", payload)
	}
	if got := command([]string{secretVariable}, nil, "token", "--sub", "a", "--ttl", "48h"); !strings.Contains(got.errors, "too far in the future") {
		t.Errorf("got %+v", got)
	}
}

func TestPub(t *testing.T) {
	env := []string{"GATEWAY_NATS_URL=" + startServer(t).ClientURL()}

	got := command(env, nil, "pub", "push.user.alice", `{"hello":"world"}`, "-H", "Nats-Msg-Id: a:b")
	if got != (outcome{0, "published 17 bytes to push.user.alice\n", ""}) {
		t.Errorf("got %+v", got)
	}
	got = command(env, strings.NewReader("from stdin"), "pub", "flash.x", "-")
	if got != (outcome{0, "published 10 bytes to flash.x\n", ""}) {
		t.Errorf("got %+v", got)
	}
	got = command(env, nil, "pub", "user.alice", "x")
	if got.code != 0 || !strings.Contains(got.errors, "warning: clients do not see user.alice: publish to push.user.alice") {
		t.Errorf("got %+v", got)
	}
	if got = command(env, nil, "pub", "push", "x"); !strings.Contains(got.errors, "clients do not see push") {
		t.Errorf("got %+v", got)
	}

	nobody := heldAddr(t).String()
	got = command(nil, nil, "pub", "push.a", "x", "--nats.url", "nats://u:hush@"+nobody)
	if got.code != 1 || !strings.Contains(got.errors, "cannot reach NATS at nats://[redacted]@"+nobody+": is `gateway dev` running") || strings.Contains(got.errors, "hush") {
		t.Errorf("got %+v", got)
	}
}
