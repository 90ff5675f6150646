package tools

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
)

// TestGatewayTakesItsConfig lets the gateway itself judge the files.
func TestGatewayTakesItsConfig(t *testing.T) {
	for _, o := range overlays {
		m, _ := decode(render(t, o.folder))
		for _, d := range m.deployments {
			g, err := m.gatewayOf(d)
			if err != nil {
				t.Fatal(err)
			}
			var env []string
			for _, v := range g.Env {
				env = append(env, v.Name+"="+v.Value)
			}
			if out, err := check(t, g.config, env...); err != nil {
				t.Errorf("%s: %v\n%s", o.folder, err, out)
			}
			if out, err := check(t, g.config+"\nnonsense: 1\n", env...); err == nil || !strings.Contains(out, "nonsense") {
				t.Errorf("%s: an unknown key passes: %v\n%s", o.folder, err, out)
			}
		}
	}
}

// program is the gateway, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "manifests-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "gateway"), "./cmd/gateway")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return filepath.Join(dir, "gateway"), nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// check runs gateway check. What a container has below /etc/pushgate is here in
// a folder of the test's.
func check(t *testing.T, config string, env ...string) (string, error) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, certificate, seed := keyMaterial(t)
	for name, content := range map[string]string{
		"config.yaml":     strings.ReplaceAll(config, "/etc/pushgate/", dir+"/"),
		"secret/hs256":    strings.Repeat("s", 32),
		"keys/tokens.pem": key, "nats/ca.crt": certificate, "nats/gateway.nk": seed,
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), path, "check", "--config", filepath.Join(dir, "config.yaml"))
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GATEWAY_") })
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// keyMaterial is a public key and a certificate in PEM, and a seed of NATS.
func keyMaterial(t *testing.T) (key, certificate, seed string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	inPEM := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return inPEM("PUBLIC KEY", public), inPEM("CERTIFICATE", der), string(raw)
}
