package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// scheme is the URL scheme of the public listener; plain is the one without
// TLS.
func (c *Config) scheme(plain string) string {
	if c.TLS.CertFile != "" {
		return plain + "s"
	}
	return plain
}

// certFiles are tls.cert_file and tls.key_file as they were last read, and the
// certificate that new handshakes get.
type certFiles struct {
	cert, key string
	contents  [][]byte
	inUse     atomic.Pointer[tls.Certificate]
}

// openCertFiles reads the pair. The error names the key that is to blame.
func openCertFiles(cert, key string) (*certFiles, error) {
	f := &certFiles{cert: cert, key: key}
	contents, err := f.read()
	if err != nil {
		return nil, err
	}
	return f, f.use(contents)
}

func (f *certFiles) read() ([][]byte, error) {
	contents := make([][]byte, 2)
	for i, from := range []struct{ key, name string }{{"tls.cert_file", f.cert}, {"tls.key_file", f.key}} {
		content, err := os.ReadFile(from.name)
		if err != nil {
			return nil, &keyError{from.key, from.name, "cannot be read: " + pathless(err).Error()}
		}
		contents[i] = content
	}
	return contents, nil
}

// use serves the pair from now on, if it is one.
func (f *certFiles) use(contents [][]byte) error {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return &keyError{"tls.cert_file", f.cert, fmt.Sprintf("and tls.key_file %q are no certificate and its key: %v", f.key, err)}
	}
	f.contents = contents
	f.inUse.Store(&pair)
	return nil
}

// config is how the public listener speaks TLS.
func (f *certFiles) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.inUse.Load(), nil },
	}
}

// watch serves changed files, until stop is closed. They are compared whole,
// like keyFiles. What cannot be used is logged, once, and the old certificate
// stays: so it does between the two writes of somebody who is not quick.
func (f *certFiles) watch(log *zap.Logger, stop <-chan struct{}) {
	tick := time.NewTicker(keyInterval)
	defer tick.Stop()
	complaint := ""
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		contents, err := f.read()
		if err == nil && equalContents(contents, f.contents) {
			continue
		}
		if err == nil {
			err = f.use(contents)
		}
		if err == nil {
			complaint = ""
			log.Info("certificate was read again", zap.Time("not_after", f.inUse.Load().Leaf.NotAfter))
		} else if complaint != err.Error() {
			complaint = err.Error()
			log.Error("tls.cert_file and tls.key_file cannot be used as they are now, the certificate from before stays", zap.Error(err))
		}
	}
}
