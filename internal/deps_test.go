// Package internal holds no code: this test proves who may import whom.
package internal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// floors are the packages of this module and what of it each may import.
// Imports point down only; what is not listed imports nothing of ours.
var floors = map[string][]string{
	"api":              nil,
	"internal/poll":    nil,
	"internal/auth":    {"api"},
	"internal/session": {"api", "internal/auth", "internal/poll"},
	"internal/bus":     {"api", "internal/poll"},
	"web":              nil,
	"cmd/gateway":      {"api", "internal/auth", "internal/bus", "internal/poll", "internal/session", "web"},
	// Benchmarks see the gateway from outside.
	"cmd/loadgen":           {"api", "test/servers"},
	"test/peers/plain":      {"api"},
	"test/delivery":         {"api", "test/servers"},
	"test/servers":          nil,
	"test/peers/natsserver": nil,
	// Examples are applications: they know NATS, tokens and the public address.
	"examples/local":         nil,
	"examples/visit":         nil,
	"examples/chat":          {"examples/local"},
	"examples/notifications": {"examples/local"},
	"examples/prices":        {"examples/local"},
}

// owners are the packages that alone may import something, inside internal/.
var owners = []struct {
	path  string // of the import, or its beginning
	owner string
	why   string
}{
	{"github.com/nats-io/nats.go", "internal/bus", "NATS is one floor's matter"},
	{"github.com/golang-jwt/jwt", "internal/auth", "tokens are one floor's matter"},
	{"golang.org/x/sys", "internal/poll", "system calls stay where both systems have a twin"},
	{"syscall", "internal/poll", "system calls stay where both systems have a twin"},
	{"unsafe", "internal/poll", "memory safety is given up in one place only"},
}

func TestFloors(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			switch {
			case name == "node_modules" || name == "tools" || strings.HasPrefix(name, ".") && name != "..":
				return filepath.SkipDir
			case slices.Contains([]string{"util", "utils", "common", "manager", "helper", "helpers"}, name):
				t.Errorf("%s: a package is named for what it is about", path)
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			files++
			checkFile(t, filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator))))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files were looked at", files)
	}
}

// checkFile looks at the imports of one file, whatever its build tags.
func checkFile(t *testing.T, path string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	here := filepath.ToSlash(filepath.Dir(path))
	allowed, listed := floors[here]
	for _, spec := range parsed.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		if ours, ok := strings.CutPrefix(imported, "pushgate/"); ok {
			if !listed {
				t.Errorf("%s: %s stands on no floor yet: say in deps_test.go what it may import", path, here)
			} else if !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s: %s may import only %v, because imports point down", path, ours, here, allowed)
			}
			continue
		}
		if here == "api" && strings.Contains(strings.Split(imported, "/")[0], ".") {
			t.Errorf("%s imports %s: the wire contract uses the standard library only", path, imported)
		}
		for _, o := range owners {
			inside := strings.HasPrefix(here, "internal/")
			if inside && here != o.owner && (imported == o.path || strings.HasPrefix(imported, o.path+"/")) {
				t.Errorf("%s imports %s: only %s may, because %s", path, imported, o.owner, o.why)
			}
		}
	}
}
