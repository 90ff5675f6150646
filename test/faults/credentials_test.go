//go:build linux

package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// user is an nkey user: what the server knows, and the file that the gateway
// gets.
func user(t *testing.T, dir, name string) (key, file, seed string) {
	t.Helper()
	k := nkey(t, nkeys.CreateUser)
	key = public(t, k)
	b, err := k.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return key, file, string(b)
}

// TestWrongCredentials has a gateway log in with what NATS does not take. It
// says which of its settings that is, never what they hold, and is ready as
// soon as NATS takes them.
func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	known, nkeyFile, seed := user(t, dir, "gateway.nk")
	other, _, _ := user(t, dir, "other.nk")
	for _, c := range []struct {
		key         string // that the log names
		wrong, good string // configuration of NATS
		settings    []string
		secret      string
		url         string // in place of the server's
	}{
		{
			key: "nats.user", settings: []string{"GATEWAY_NATS_USER=gw", "GATEWAY_NATS_PASSWORD=pw-of-the-gateway"}, secret: "pw-of-the-gateway",
			wrong: `authorization { user: gw, password: another }`, good: `authorization { user: gw, password: pw-of-the-gateway }`,
		},
		{
			key: "nats.token", settings: []string{"GATEWAY_NATS_TOKEN=token-of-the-gateway"}, secret: "token-of-the-gateway",
			wrong: `authorization { token: another }`, good: `authorization { token: token-of-the-gateway }`,
		},
		{
			key: "nats.nkey_file", settings: []string{"GATEWAY_NATS_NKEY_FILE=" + nkeyFile}, secret: seed,
			wrong: `authorization { users: [ { nkey: ` + other + ` } ] }`, good: `authorization { users: [ { nkey: ` + known + ` } ] }`,
		},
		{
			key: "nats.url", secret: "pw-of-the-url", url: "nats://gw:pw-of-the-url@",
			wrong: `authorization { user: gw, password: another }`, good: `authorization { user: gw, password: pw-of-the-url }`,
		},
		{
			// Nothing is set, and something is needed.
			key: "none is configured", wrong: `authorization { user: gw, password: another }`, good: ``, secret: "another",
		},
	} {
		t.Run(strings.TrimPrefix(c.key, "nats."), func(t *testing.T) {
			t.Parallel()
			n, reconfigure := configured(t, c.wrong)
			url := n.URL()
			if c.url != "" {
				url = c.url + n.Addr
			}
			g := newGateway(t, url, c.settings...)
			whenReady := g.Ready
			g.Ready = g.alive
			start(t, &g.Process)
			eventually(t, "the log names "+c.key, func(context.Context) bool { return strings.Contains(g.logged(t), c.key) })
			if g.isReady(t) {
				t.Error("the gateway is ready, and NATS has refused it")
			}
			reconfigure(c.good)
			eventually(t, "the gateway is ready", whenReady)
			if strings.Contains(g.logged(t), c.secret) {
				t.Errorf("the log holds %q", c.secret)
			}
		})
	}
}

// TestCredentialsChange has NATS refuse for a while what it took before. The
// sessions stay, and what was stored meanwhile arrives.
func TestCredentialsChange(t *testing.T) {
	t.Parallel()
	const config = `authorization { users: [ { user: backend, password: b }, { user: gw, password: %s } ] }`
	n, reconfigure := configured(t, fmt.Sprintf(config, "good"))
	g := startGateway(t, n.URL(), append([]string{"GATEWAY_NATS_USER=gw", "GATEWAY_NATS_PASSWORD=good"}, durable...)...)
	b := newBackend(t, n.URL(), nats.UserInfo("backend", "b"))
	alice := connect(t, g.Addr, "alice")
	b.store(t, "alice", 10)
	alice.has(t, 10)
	reconfigure(fmt.Sprintf(config, "another"))
	eventually(t, "NATS ends the connection", func(context.Context) bool { return g.metric(t, "pushgate_nats_connected") == 0 })
	// More than once, so that it is not the client library's patience which
	// is tested.
	eventually(t, "the gateway is refused a few times", func(context.Context) bool {
		return strings.Count(strings.ToLower(g.logged(t)), "authorization violation") >= 3
	})
	b.store(t, "alice", 10)
	reconfigure(fmt.Sprintf(config, "good"))
	alice.has(t, 20)
	g.keptAll(t)
}

// TestWrongCredentialsFile has a server that trusts an operator, and a user of
// an account that the operator does not know.
func TestWrongCredentialsFile(t *testing.T) {
	t.Parallel()
	operator, stranger, name := nkey(t, nkeys.CreateOperator), nkey(t, nkeys.CreateAccount), nkey(t, nkeys.CreateUser)
	account, system := nkey(t, nkeys.CreateAccount), nkey(t, nkeys.CreateAccount)
	operatorJWT, err := jwt.NewOperatorClaims(public(t, operator)).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	preload := ""
	for _, a := range []nkeys.KeyPair{account, system} {
		accountJWT, err := jwt.NewAccountClaims(public(t, a)).Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		preload += public(t, a) + ": " + accountJWT + "\n"
	}
	file := filepath.Join(t.TempDir(), "gateway.creds")
	credentials := func(account nkeys.KeyPair) string {
		userJWT, err := jwt.NewUserClaims(public(t, name)).Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		seed, err := name.Seed()
		if err != nil {
			t.Fatal(err)
		}
		b, err := jwt.FormatUserConfig(userJWT, seed)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return string(seed)
	}
	seed := credentials(stranger)
	config := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n%s}\n",
		operatorJWT, public(t, system), preload), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNATS(t, "-c", config)
	g := newGateway(t, n.URL(), "GATEWAY_NATS_CREDS_FILE="+file)
	whenReady := g.Ready
	g.Ready = g.alive
	start(t, &g.Process)
	eventually(t, "the log names nats.creds_file", func(context.Context) bool { return strings.Contains(g.logged(t), "nats.creds_file") })
	// The file is read again for each try.
	credentials(account)
	eventually(t, "the gateway is ready", whenReady)
	if strings.Contains(g.logged(t), seed) {
		t.Error("the log holds the seed")
	}
}

func nkey(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	k, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	key, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
