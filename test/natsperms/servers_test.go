// Package natsperms holds the configuration that deployments/nats proposes
// against real servers: with it a gateway does all its work, and nobody may do
// anything else.
package natsperms

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const (
	folder = "../../deployments/nats"
	laptop = "../../deployments/compose"
	// patience is how long anything may take on a busy machine.
	patience = 60 * time.Second
)

// cluster is three servers with the proposed configuration, and what their
// users need.
type cluster struct {
	tb    testing.TB
	dir   string // certificates and seeds
	nodes []*server.Server
	url   string
}

// users are the roles of accounts.conf, with the prefix of their inboxes.
var users = map[string]string{
	"gateway": "", "backend": "_INBOX_backend", "trusted": "_INBOX_trusted", "admin": "_INBOX_admin", "system": "",
}

// startCluster runs a nats.conf three times, as it stands but for addresses and
// the sizes of disks.
func startCluster(tb testing.TB, config string) *cluster {
	tb.Helper()
	c := &cluster{tb: tb, dir: tb.TempDir()}
	c.makeCertificates()
	variables := map[string]string{
		"NATS_TLS_CERT": c.file("server.pem"), "NATS_TLS_KEY": c.file("server.key"), "NATS_TLS_CA": c.file("ca.pem"),
	}
	for role := range users {
		variables["NATS_KEY_"+strings.ToUpper(role)] = c.makeSeed(role)
	}
	for k := range 3 {
		variables["NATS_NAME"] = fmt.Sprint("nats-", k)
		variables["NATS_STORE"] = c.dir
		for name, value := range variables {
			tb.(interface{ Setenv(string, string) }).Setenv(name, value)
		}
		c.nodes = append(c.nodes, c.startNode(config))
	}
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, n.ClientURL())
	}
	c.url = strings.Join(urls, ",")
	eventually(tb, "the cluster has a leader that sees everybody", func() bool {
		for _, n := range c.nodes {
			if n.JetStreamIsLeader() {
				return len(n.JetStreamClusterPeers()) == len(c.nodes)
			}
		}
		return false
	})
	return c
}

// startNode runs one server on ports of its own, with a route to the first.
func (c *cluster) startNode(config string) *server.Server {
	c.tb.Helper()
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		c.tb.Fatal(err)
	}
	o.Host, o.Port, o.HTTPPort = "127.0.0.1", server.RANDOM_PORT, 0
	o.Cluster.Host, o.Cluster.Port = "127.0.0.1", server.RANDOM_PORT
	o.Routes = server.RoutesFromStr("nats-route://127.0.0.1:1")
	if len(c.nodes) > 0 {
		o.Routes = server.RoutesFromStr("nats-route://" + c.nodes[0].ClusterAddr().String())
	}
	// A machine for tests has no disk of that size, and no folder of that name.
	o.JetStreamMaxStore, o.JetStreamMaxMemory, o.StoreDir = 1<<30, 64<<20, c.tb.TempDir()
	o.NoSigs, o.NoLog = true, true
	// Nor is it as quick as the servers that the file is for.
	o.TLSTimeout, o.AuthTimeout, o.Cluster.TLSTimeout = patience.Seconds(), patience.Seconds(), patience.Seconds()
	s, err := server.NewServer(o)
	if err != nil {
		c.tb.Fatal(err)
	}
	s.Start()
	c.tb.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		c.tb.Fatal("a NATS server does not start")
	}
	return s
}

func (c *cluster) file(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) write(name string, content []byte) {
	c.tb.Helper()
	if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
		c.tb.Fatal(err)
	}
}

// makeSeed makes a user's key and returns its public part.
func (c *cluster) makeSeed(role string) string {
	c.tb.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		c.tb.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		c.tb.Fatal(err)
	}
	c.write(role+".nk", seed)
	public, err := pair.PublicKey()
	if err != nil {
		c.tb.Fatal(err)
	}
	return public
}

// makeCertificates makes an authority and the servers' certificate.
func (c *cluster) makeCertificates() {
	c.tb.Helper()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "nats"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	caKey, leafKey := c.makeKey(), c.makeKey()
	for _, made := range []struct {
		name      string
		template  *x509.Certificate
		publicKey *ecdsa.PublicKey
	}{{"ca.pem", ca, &caKey.PublicKey}, {"server.pem", leaf, &leafKey.PublicKey}} {
		der, err := x509.CreateCertificate(rand.Reader, made.template, ca, made.publicKey, caKey)
		if err != nil {
			c.tb.Fatal(err)
		}
		c.write(made.name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		c.tb.Fatal(err)
	}
	c.write("server.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (c *cluster) makeKey() *ecdsa.PrivateKey {
	c.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.tb.Fatal(err)
	}
	return key
}

// connect logs in with a role's seed, as its services do.
func (c *cluster) connect(tb testing.TB, role string) *nats.Conn {
	tb.Helper()
	login, err := nats.NkeyOptionFromSeed(c.file(role + ".nk"))
	if err != nil {
		tb.Fatal(err)
	}
	o := []nats.Option{
		login, nats.RootCAs(c.file("ca.pem")), nats.Timeout(patience),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // errors are asked for
	}
	if prefix := users[role]; prefix != "" {
		o = append(o, nats.CustomInboxPrefix(prefix))
	}
	nc, err := nats.Connect(c.url, o...)
	if err != nil {
		tb.Fatalf("%s: %v", role, err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// define makes the stream and the buckets, with the definitions as they stand.
func (c *cluster) define() {
	c.tb.Helper()
	admin := c.connect(c.tb, "admin")
	for _, name := range []string{"stream", "bucket-revocations", "bucket-acks"} {
		definition, err := os.ReadFile(filepath.Join(folder, name+".json"))
		if err != nil {
			c.tb.Fatal(err)
		}
		var head struct{ Name string }
		if err := json.Unmarshal(definition, &head); err != nil {
			c.tb.Fatalf("%s: %v", name, err)
		}
		eventually(c.tb, head.Name+" is made", func() bool {
			m, err := admin.Request("$JS.API.STREAM.CREATE."+head.Name, definition, 10*time.Second)
			if err != nil {
				c.tb.Logf("%s: %v", head.Name, err)
				return false
			}
			var answer struct {
				Error *struct {
					Code        int
					ErrCode     int `json:"err_code"`
					Description string
				}
			}
			if err := json.Unmarshal(m.Data, &answer); err != nil {
				c.tb.Fatal(err)
			}
			// These are a cluster that is still finding itself.
			if e := answer.Error; e != nil && e.Code != 503 && e.ErrCode != noSuitablePeers {
				c.tb.Fatalf("%s: %s", head.Name, e.Description)
			}
			return answer.Error == nil
		})
	}
}

// noSuitablePeers is JetStream's error where too few servers are there.
const noSuitablePeers = 10005

// heard waits until every node knows that somebody listens to a subject, or that
// nobody does any more: they tell each other, which takes a moment, and what is
// published on the wrong node before goes nowhere.
func (c *cluster) heard(tb testing.TB, subject string, somebody bool) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("every node knows whether somebody listens to %s: %v", subject, somebody), func() bool {
		for _, n := range c.nodes {
			account, err := n.LookupAccount("PUSHGATE")
			if err != nil {
				tb.Fatal(err)
			}
			if (account.Interest(subject) > 0) != somebody {
				return false
			}
		}
		return true
	})
}

// copied waits until every node has all of a stream.
func (c *cluster) copied(tb testing.TB, stream string) {
	tb.Helper()
	eventually(tb, "every node has all of "+stream, func() bool {
		last := map[uint64]bool{}
		copies := 0
		for _, n := range c.nodes {
			all, err := n.Jsz(&server.JSzOptions{Account: "PUSHGATE", Streams: true})
			if err != nil {
				tb.Fatal(err)
			}
			for _, account := range all.AccountDetails {
				for _, one := range account.Streams {
					if one.Name == stream {
						last[one.State.LastSeq] = true
						copies++
					}
				}
			}
		}
		return copies == len(c.nodes) && len(last) == 1
	})
}

// violation is what the server says of a publish or a subscription, nil when it
// is allowed.
func violation(tb testing.TB, nc *nats.Conn, verb, subject string) error {
	tb.Helper()
	if verb == "subscribe" {
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	} else if err := nc.Publish(subject, []byte(`{}`)); err != nil {
		tb.Fatal(err)
	}
	// The server answers in order: what it has against it comes before this.
	if err := nc.FlushTimeout(patience); err != nil {
		tb.Fatal(err)
	}
	if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return nil
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("still not so: %s", what)
		}
	}
}
