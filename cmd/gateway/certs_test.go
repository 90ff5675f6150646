package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// certPair writes a certificate for 127.0.0.1 and its key.
func certPair(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, template.SerialNumber.String()+".crt"), filepath.Join(dir, template.SerialNumber.String()+".key")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return cert, key
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, to, string(content))
}

// servedSerial makes a request and returns the certificate's serial number: an
// answer says that the handshake is done on both sides. The gateway does not wait
// for ever for one: where both were too slow for it, it is made again.
func servedSerial(t *testing.T, addr string) (serial int64) {
	t.Helper()
	eventually(t, "there is an answer over TLS", func() bool {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Log(err)
			return false
		}
		defer func() { _ = conn.Close() }()
		serial = conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
		if _, err = exchange(conn, wsRequest("/v1/ws")); err != nil {
			t.Log(err)
		}
		return err == nil
	})
	return serial
}

// TestTLSListener has sessions over TLS, and changes the certificate under
// them: the new one is for new handshakes, and who is there stays.
func TestTLSListener(t *testing.T) {
	dir := t.TempDir()
	cert, key := certPair(t, dir, 1)
	otherCert, otherKey := certPair(t, dir, 2)
	g := startGateway(t, "GATEWAY_TLS_CERT_FILE="+cert, "GATEWAY_TLS_KEY_FILE="+key)
	addr := g.addr.String()

	trusted := x509.NewCertPool()
	content, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	trusted.AppendCertsFromPEM(content)
	ctx, cancel := context.WithTimeout(context.Background(), 5*comesWithin)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	defer transport.CloseIdleConnections()
	var alice *websocket.Conn
	eventually(t, "alice is let in", func() bool {
		if alice, _, err = websocket.Dial(ctx, "wss://"+addr+"/v1/ws", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: transport}, HTTPHeader: http.Header{"Authorization": {"Bearer " + g.token("alice")}},
		}); err != nil {
			t.Log(err)
		}
		return err == nil
	})
	defer func() { _ = alice.CloseNow() }()
	reads := func(what string) {
		t.Helper()
		if _, b, err := alice.Read(ctx); err != nil || !strings.Contains(string(b), what) {
			t.Fatalf("got %s, %v; want %s", b, err, what)
		}
	}
	reads("welcome")

	if n := servedSerial(t, addr); n != 1 {
		t.Errorf("certificate %d is served first", n)
	}
	copyFile(t, cert, otherCert)
	copyFile(t, key, otherKey)
	eventually(t, "the new certificate is served", func() bool { return servedSerial(t, addr) == 2 })
	g.publish("push.user.alice", `"still here"`)
	reads("still here")

	failures := func() string { return g.metric("pushgate_tls_failures_total") }
	eventually(t, "a handshake that is done is no failure", func() bool {
		before := failures()
		servedSerial(t, addr)
		return failures() == before
	})
	before := failures()
	if conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}); err == nil {
		_ = conn.Close()
		t.Error("h2 alone is served")
	}
	eventually(t, "the failure is counted", func() bool { return failures() != before })
}

// TestCertificateStaysWhenAFileIsSpoiled watches a pair that does not fit for
// a while, is nonsense, goes away, and comes back.
func TestCertificateStaysWhenAFileIsSpoiled(t *testing.T) {
	dir := t.TempDir()
	cert, key := certPair(t, dir, 1)
	otherCert, otherKey := certPair(t, dir, 2)
	f, err := openCertFiles(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	config := f.config()
	serves := func() int64 {
		c, err := config.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.Int64()
	}
	core, logs := observer.New(zap.InfoLevel)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		f.watch(zap.New(core), stop)
	}()
	defer func() { close(stop); <-ended }()
	complaints := func(n int) func() bool {
		return func() bool { return logs.FilterLevelExact(zap.ErrorLevel).Len() == n }
	}

	copyFile(t, cert, otherCert)
	eventually(t, "a key of another certificate is logged", complaints(1))
	replace(t, cert, "spoiled")
	eventually(t, "nonsense is logged", complaints(2))
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a missing file is logged", complaints(3))
	if n := serves(); n != 1 {
		t.Errorf("meanwhile %d is served", n)
	}
	copyFile(t, cert, otherCert)
	copyFile(t, key, otherKey)
	eventually(t, "the other is served", func() bool { return serves() == 2 })
}

func TestTLSConfiguration(t *testing.T) {
	dir := t.TempDir()
	cert, key := certPair(t, dir, 1)
	_, otherKey := certPair(t, dir, 2)
	nothing := fileWith(t, "nothing", "nothing\n")
	for _, tc := range []struct{ name, cert, key, want string }{
		{"a pair", cert, key, ""},
		{"none", "", "", ""},
		{"no key", cert, "", `tls.cert_file "` + cert + `" needs tls.key_file beside it`},
		{"no certificate", "", key, `tls.key_file "` + key + `" needs tls.cert_file beside it`},
		{"a missing certificate", cert + ".no", key, `tls.cert_file "` + cert + `.no" cannot be read: no such file or directory`},
		{"a missing key", cert, key + ".no", `tls.key_file "` + key + `.no" cannot be read: no such file or directory`},
		{"another's key", cert, otherKey, `tls.cert_file "` + cert + `" and tls.key_file "` + otherKey + `" are no certificate and its key`},
		{"no PEM", nothing, key, `tls.cert_file "` + nothing + `" and tls.key_file`},
	} {
		var env []string
		if tc.cert != "" {
			env = append(env, "GATEWAY_TLS_CERT_FILE="+tc.cert)
		}
		if tc.key != "" {
			env = append(env, "GATEWAY_TLS_KEY_FILE="+tc.key)
		}
		_, _, err := loadConfig(input{env: env})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestTailURLWithTLS(t *testing.T) {
	c := &Config{Listen: ":8443", TLS: TLSConfig{CertFile: "x"}}
	if got, err := tailURL("", c); err != nil || got != "wss://127.0.0.1:8443/v1/ws" {
		t.Errorf("got %s, %v", got, err)
	}
}
