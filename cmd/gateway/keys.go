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

// keyFiles are auth.public_key_files as they were last read.
type keyFiles struct {
	names    []string
	contents [][]byte
}

// openKeyFiles reads all the keys of the files. The error names the file.
func openKeyFiles(names []string) (*keyFiles, []crypto.PublicKey, error) {
	contents, err := readKeyFiles(names)
	if err != nil {
		return nil, nil, err
	}
	keys, err := parsePublicKeys(names, contents)
	return &keyFiles{names, contents}, keys, err
}

// maxKeyFile bounds a file of keys: hundreds of them.
const maxKeyFile = 1 << 20

func readKeyFiles(files []string) ([][]byte, error) {
	contents := make([][]byte, len(files))
	for i, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, &keyError{"auth.public_key_files", files, "names a file that cannot be read: " + err.Error()}
		}
		if len(content) > maxKeyFile {
			return nil, &keyError{"auth.public_key_files", files, fmt.Sprintf("names %s, which is larger than 1 MiB", name)}
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
			return nil, &keyError{"auth.public_key_files", files, fmt.Sprintf("names %s, which %v", files[i], err)}
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
			err = v.SetPublicKeys(keys)
		}
		if err == nil {
			f.contents, complaint = contents, ""
			log.Info("public keys were read again", zap.Int("keys", len(keys)))
		} else if complaint != err.Error() {
			complaint = err.Error()
			log.Error("auth.public_key_files cannot be used as they are now, the keys from before stay", zap.Error(err))
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
