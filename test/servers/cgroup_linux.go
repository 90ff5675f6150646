package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// MemoryGroup is a cgroup with a limit of memory, of either version.
type MemoryGroup struct {
	dir string
	v2  bool
}

// NewMemoryGroup makes a group with a limit in bytes. Where that cannot be
// done, as without root or in most containers, the error says why in plain
// words.
func NewMemoryGroup(limit int64) (*MemoryGroup, error) {
	g, err := makeGroup()
	if err != nil {
		return nil, fmt.Errorf("no memory cgroup can be made here: %w", err)
	}
	file := "memory.limit_in_bytes"
	if g.v2 {
		file = "memory.max"
	}
	if err := g.write(file, strconv.FormatInt(limit, 10)); err != nil {
		return nil, errors.Join(fmt.Errorf("the memory cgroup takes no limit: %w", err), g.Close())
	}
	return g, nil
}

const cgroups = "/sys/fs/cgroup"

// makeGroup makes a group under our own, so that limits that there are hold.
func makeGroup() (*MemoryGroup, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	root, own, v2 := "", "", false
	for line := range strings.Lines(strings.TrimSpace(string(b))) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch {
		case fields[0] == "0" && root == "":
			root, own, v2 = cgroups, fields[2], true
		case fields[1] == "memory":
			root, own, v2 = filepath.Join(cgroups, "memory"), fields[2], false
		}
	}
	if root == "" {
		return nil, errors.New("/proc/self/cgroup names none")
	}
	parent := filepath.Join(root, own)
	if _, err := os.Stat(parent); err != nil {
		parent = root // a container sees its own group as the root
	}
	if v2 {
		// A group that has processes, other than the first of all, may not
		// hand its controllers down.
		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(parent, "pushgate-")
	if err != nil {
		return nil, err
	}
	return &MemoryGroup{dir: dir, v2: v2}, nil
}

func (g *MemoryGroup) write(file, value string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0)
}

// Command is a command line that runs a program inside the group.
func (g *MemoryGroup) Command(path string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs"), path}, args...)
}

// Confine has a process start inside the group. It must not run yet.
func (g *MemoryGroup) Confine(p *Process) {
	command := g.Command(p.Path, p.Args...)
	p.Path, p.Args = command[0], command[1:]
}

// Peak is the most memory that the group has used, in bytes.
func (g *MemoryGroup) Peak() (int64, error) {
	file := "memory.max_usage_in_bytes"
	if g.v2 {
		file = "memory.peak"
	}
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// Killed is how many processes the kernel has killed for want of memory.
func (g *MemoryGroup) Killed() (int, error) {
	file := "memory.oom_control"
	if g.v2 {
		file = "memory.events"
	}
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strconv.Atoi(strings.TrimSpace(n))
		}
	}
	return 0, fmt.Errorf("%s does not count kills", file)
}

// Close removes the group, whose processes must have ended.
func (g *MemoryGroup) Close() error {
	var err error
	for range 600 { // the kernel takes a moment to see that they have
		if err = os.Remove(g.dir); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}
