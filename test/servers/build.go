package servers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Binaries are the programs, as production has them.
type Binaries struct{ Gateway, NATSServer string }

// Build makes the programs in a folder.
func Build(ctx context.Context, dir string) (*Binaries, error) {
	b := &Binaries{Gateway: filepath.Join(dir, "gateway"), NATSServer: filepath.Join(dir, "nats-server")}
	for _, args := range [][]string{
		{"-tags", "nodev", "-o", b.Gateway, "pushgate/cmd/gateway"},
		{"-o", b.NATSServer, "github.com/nats-io/nats-server/v2"},
	} {
		cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
		cmd.Dir = moduleDir()
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("building %s: %w", args[len(args)-1], err)
		}
	}
	return b, nil
}

// moduleDir is where this module lies: whoever imports it from another module
// gets the same programs, with the same libraries.
func moduleDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
