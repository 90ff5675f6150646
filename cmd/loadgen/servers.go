//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	stage "pushgate/test/servers"
)

// benchSecret is what the servers that compare starts verify tokens with.
const benchSecret = "a secret for benchmarks on this machine only"

// binaries are the servers under test, built for this run.
type binaries struct {
	dir    string
	self   string
	before string // an older gateway program
}

// build makes the binaries, the gateway as production runs it; the caller
// removes them.
func build(ctx context.Context) (*binaries, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "loadgen")
	if err != nil {
		return nil, err
	}
	b := &binaries{dir: dir, self: self}
	for _, args := range [][]string{
		{"-tags", "nodev", "-ldflags", "-s -w", "-o", "gateway", "pushgate/cmd/gateway"},
		{"-o", "plain", "pushgate/test/peers/plain"},
		{"-o", "natsserver", "pushgate/test/peers/natsserver"},
	} {
		args[len(args)-2] = filepath.Join(dir, args[len(args)-2])
		cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath"}, args...)...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			b.remove()
			return nil, fmt.Errorf("building %s: %w (run it inside the module)", args[len(args)-1], err)
		}
	}
	return b, nil
}

func (b *binaries) remove() { _ = os.RemoveAll(b.dir) }

// servers is one server under test, with the NATS that it needs.
type servers struct {
	target    target
	processes []*exec.Cmd
	program   string             // a gateway program other than the one built
	inside    *stage.MemoryGroup // where gateways start; nil: as they are
}

func newServers() *servers {
	return &servers{target: target{Secret: benchSecret, Protocol: "pushgate", Users: "u"}}
}

// start starts a server freshly; its caller stops it.
func (b *binaries) start(ctx context.Context, name string) (*servers, error) {
	s := newServers()
	var err error
	switch name {
	case "gateway":
		err = s.startGateway(ctx, b)
	case olderServer:
		s.program = b.before
		err = s.startGateway(ctx, b)
	case "plain":
		err = s.startPlain(ctx, b)
	case "natsserver":
		err = s.startNATS(ctx, b, true)
	case "floor":
		err = s.startFloor(ctx, b)
	default:
		err = fmt.Errorf("there is no server %q: gateway, plain, natsserver or floor", name)
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// run starts a process and returns the words behind "ready" of its first line.
func (s *servers) run(ctx context.Context, name string, args ...string) (*exec.Cmd, []string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	s.processes = append(s.processes, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 2 || words[0] != "ready" {
		return nil, nil, fmt.Errorf("%s said %q", filepath.Base(name), line)
	}
	return cmd, words[1:], nil
}

func (s *servers) startNATS(ctx context.Context, b *binaries, clients bool, more ...string) error {
	args := append([]string{"-port=0", "-ws-port=-1"}, more...)
	if clients {
		s.target.Debug = freeAddr()
		args = []string{"-port=0", "-ws-port=0", "-debug=" + s.target.Debug}
	}
	cmd, words, err := s.run(ctx, filepath.Join(b.dir, "natsserver"), args...)
	if err != nil {
		return err
	}
	s.target.NATS = words[0]
	if clients {
		s.target.PID, s.target.Protocol = cmd.Process.Pid, "natsws"
		s.target.Addr = strings.TrimPrefix(words[1], "ws://")
	}
	return nil
}

func (s *servers) startPlain(ctx context.Context, b *binaries) error {
	if err := s.startNATS(ctx, b, false); err != nil {
		return err
	}
	s.target.Debug = freeAddr()
	cmd, words, err := s.run(ctx, filepath.Join(b.dir, "plain"),
		"-listen=127.0.0.1:0", "-nats="+s.target.NATS, "-secret="+benchSecret, "-debug="+s.target.Debug)
	if err != nil {
		return err
	}
	s.target.PID, s.target.Addr = cmd.Process.Pid, words[0]
	return nil
}

func (s *servers) startFloor(ctx context.Context, b *binaries) error {
	cmd, words, err := s.run(ctx, b.self, "floor")
	if err != nil {
		return err
	}
	s.target.PID, s.target.Addr, s.target.Control, s.target.Debug = cmd.Process.Pid, words[0], words[1], ""
	return nil
}

// startGateway starts a gateway on a NATS server of its own. settings are
// environment variables, which win over those that it gets anyhow.
func (s *servers) startGateway(ctx context.Context, b *binaries, settings ...string) error {
	if err := s.startNATS(ctx, b, false); err != nil {
		return err
	}
	return s.addGateway(ctx, b, settings...)
}

// startDurable starts a gateway with a stored stream.
func (s *servers) startDurable(ctx context.Context, b *binaries, settings ...string) error {
	dir, err := os.MkdirTemp(b.dir, "jetstream")
	if err != nil {
		return err
	}
	if err := s.startNATS(ctx, b, false, "-jetstream="+dir); err != nil {
		return err
	}
	return s.addGateway(ctx, b, append([]string{"GATEWAY_DURABLE_STREAM=PUSH", "GATEWAY_DURABLE_CREATE=true"}, settings...)...)
}

// addGateway starts a gateway on the NATS server that runs already, and waits
// until it is ready.
func (s *servers) addGateway(ctx context.Context, b *binaries, settings ...string) error {
	if err := s.launch(ctx, b, settings...); err != nil {
		return err
	}
	for range 100 {
		if s.answers("/readyz") {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the gateway does not become ready")
}

// launch starts a gateway, and does not wait for it.
func (s *servers) launch(ctx context.Context, b *binaries, settings ...string) error {
	s.target.Addr, s.target.Debug, s.target.admin = freeAddr(), freeAddr(), freeAddr()
	command := []string{cmp.Or(s.program, filepath.Join(b.dir, "gateway")), "serve"}
	if s.inside != nil {
		command = s.inside.Command(command[0], command[1:]...)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "GATEWAY_LISTEN="+s.target.Addr, "GATEWAY_ADMIN_LISTEN="+s.target.admin,
		"GATEWAY_ADMIN_DEBUG_LISTEN="+s.target.Debug, "GATEWAY_NATS_URL="+s.target.NATS, "GATEWAY_AUTH_HS256_SECRET="+benchSecret,
		"GATEWAY_DRAIN_DELAY=0s", "GATEWAY_DRAIN_WINDOW=0s")
	cmd.Env = append(cmd.Env, settings...)
	if err := cmd.Start(); err != nil {
		return err
	}
	s.processes = append(s.processes, cmd)
	s.target.PID = cmd.Process.Pid
	return nil
}

// answers reports whether a page of the gateway's admin listener says 200.
func (s *servers) answers(page string) bool {
	resp, err := admin.Get("http://" + s.target.admin + page)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// freeAddr is an address of this machine that nobody listens on.
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// stop ends the processes, the last started first.
func (s *servers) stop() {
	for i := len(s.processes) - 1; i >= 0; i-- {
		p := s.processes[i]
		_ = p.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(10*time.Second, func() { _ = p.Process.Kill() })
		_ = p.Wait()
		late.Stop()
	}
}
