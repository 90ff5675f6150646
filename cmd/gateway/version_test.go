package main

import (
	"strings"
	"testing"
)

// An image is built without the checkout: what the linker says counts.
func TestVersionOfRelease(t *testing.T) {
	v, c := version, commit
	t.Cleanup(func() { version, commit = v, c })
	version, commit = "v1.2.3", "0a1b2c"
	if got := versionString(); !strings.HasPrefix(got, "v1.2.3, commit 0a1b2c, go1.") {
		t.Errorf("got %q", got)
	}
}
