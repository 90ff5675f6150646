//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

type tlsCommand struct {
	Sessions int `default:"2000" help:"Sessions at the second reading; at the first it is a third."`
	Rounds   int `default:"3" help:"Measurements, each of a fresh gateway; medians are shown."`
}

// Run is the command. It measures as idle does, on a gateway that it starts
// with a certificate of its own.
func (c *tlsCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	clients, settings, err := certificate(b.dir)
	if err != nil {
		return err
	}
	readings := map[string]map[string][]float64{"TLS": {}}
	for round := range c.Rounds {
		progress("== round %d of %d", round+1, c.Rounds)
		res, err := c.one(ctx, b, clients, settings)
		if err != nil {
			return err
		}
		for column, v := range map[string]float64{"B": res.User, "B anonymous": res.Anonymous, "B cold": res.Cold, "goroutines added": float64(res.Goroutines)} {
			readings["TLS"][column] = append(readings["TLS"][column], v)
		}
	}
	table(fmt.Sprintf("idle, bytes of user space a session between %d and %d", c.Sessions/3, c.Sessions), "sessions",
		[]string{"TLS"}, []string{"B", "B anonymous", "B cold", "goroutines added"}, readings)
	return json.NewEncoder(os.Stdout).Encode(readings)
}

func (c *tlsCommand) one(ctx context.Context, b *binaries, clients *tls.Config, settings []string) (*idleResult, error) {
	s := newServers()
	defer s.stop()
	if err := s.startGateway(ctx, b, settings...); err != nil {
		return nil, err
	}
	s.target.tls = clients
	return (&idleCommand{target: s.target, Low: c.Sessions / 3, High: c.Sessions, Warm: 1}).measure(ctx)
}

// certificate makes a server's certificate and key and writes them into dir.
// It returns what clients need to trust it, and the gateway's settings.
func certificate(dir string) (*tls.Config, []string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, nil, err
	}
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600); err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12},
		[]string{"GATEWAY_TLS_CERT_FILE=" + certFile, "GATEWAY_TLS_KEY_FILE=" + keyFile}, nil
}
