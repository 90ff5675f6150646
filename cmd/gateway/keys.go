package main

import (
	"bytes"
	"crypto"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"pushgate/internal/auth"
)

// keyFiles are the public_key_files of one issuer as they were last read.
type keyFiles struct {
	place    int // the issuer's
	names    []string
	contents [][]byte
}

// openKeyFiles reads the files of all issuers: each one's keys, and those that
// have files to be watched. The error names the file.
func openKeyFiles(issuers []IssuerConfig) (keys [][]crypto.PublicKey, files []*keyFiles, err error) {
	for place, i := range issuers {
		contents, err := readKeyFiles(i.PublicKeyFiles)
		if err != nil {
			return nil, nil, err
		}
		some, err := parsePublicKeys(i.PublicKeyFiles, contents)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, some)
		if len(contents) > 0 {
			files = append(files, &keyFiles{place, i.PublicKeyFiles, contents})
		}
	}
	return keys, files, nil
}

// maxKeyFile bounds a file of keys: hundreds of them.
const maxKeyFile = 1 << 20

func readKeyFiles(files []string) ([][]byte, error) {
	contents := make([][]byte, len(files))
	for i, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("names a file that cannot be read: %w", err)
		}
		if len(content) > maxKeyFile {
			return nil, fmt.Errorf("names %s, which is larger than 1 MiB", name)
		}
		contents[i] = content
	}
	return contents, nil
}

func parsePublicKeys(files []string, contents [][]byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for i, content := range contents {
		some, err := auth.ParsePublicKeys(content)
		if err != nil {
			return nil, fmt.Errorf("names %s, which %w", files[i], err)
		}
		keys = append(keys, some...)
	}
	return keys, nil
}

// keyInterval is how often the files of keys are looked at. They are compared
// whole: Kubernetes swaps links, and a file's time can stand still.
const keyInterval = 2 * time.Second

// watch has the verifier use the keys of changed files, until stop is closed.
// What cannot be used is logged, once, and the old keys stay.
func (f *keyFiles) watch(v *auth.Verifier, log *zap.Logger, stop <-chan struct{}) {
	tick := time.NewTicker(keyInterval)
	defer tick.Stop()
	complaint := ""
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		contents, err := readKeyFiles(f.names)
		if err == nil && equalContents(contents, f.contents) {
			continue
		}
		var keys []crypto.PublicKey
		if err == nil {
			keys, err = parsePublicKeys(f.names, contents)
		}
		if err == nil {
			err = v.SetPublicKeys(f.place, keys)
		}
		if err == nil {
			f.contents, complaint = contents, ""
			log.Info("public keys were read again", zap.Strings("files", f.names), zap.Int("keys", len(keys)))
		} else if complaint != err.Error() {
			complaint = err.Error()
			log.Error("the public key files cannot be used as they are now, the keys from before stay", zap.Error(err))
		}
	}
}

func equalContents(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
