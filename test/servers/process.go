// Package servers starts what whole-system tests play with: gateways and NATS
// servers as real processes on ports of this machine, built for the run. They
// can be ended, killed and started again.
package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
)

// StartWithin is how long a server may take to be ready, EndWithin how long
// one may take that was asked to end: on a machine that does much else.
const (
	StartWithin = time.Minute
	EndWithin   = time.Minute
)

// Process is a server that can be ended and started again.
type Process struct {
	Name string
	Path string
	Args []string
	Env  []string
	Log  string // the file that it writes to, through all its lives

	Ready func(ctx context.Context) bool

	cmd    *exec.Cmd
	exited chan error
}

// Start starts it and waits until it is ready. It lives until its caller ends
// it.
func (p *Process) Start(ctx context.Context) error {
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	p.cmd = exec.Command(p.Path, p.Args...)
	p.cmd.Env = append(os.Environ(), p.Env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return err
	}
	exited, cmd := make(chan error, 1), p.cmd
	p.exited = exited
	go func() { exited <- cmd.Wait() }()
	return p.await(ctx)
}

func (p *Process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, StartWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !p.Ready(ctx) {
		select {
		case err := <-p.exited:
			p.exited <- err
			return fmt.Errorf("%s ended at once (%v):\n%s", p.Name, err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not become ready: %w\n%s", p.Name, ctx.Err(), p.tail())
		case <-tick.C:
		}
	}
	return nil
}

// PID is the number of the process that was started last.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal and waits for nothing.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Exited waits for the process to end by itself, and says how it did.
func (p *Process) Exited(ctx context.Context) error {
	select {
	case err := <-p.exited:
		p.exited <- err
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", p.Name, ctx.Err())
	}
}

// tail is the end of its log.
func (p *Process) tail() []byte {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return nil
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-10):], []byte("\n"))
}

// End sends a signal and waits until the process is gone. One that was killed
// has nothing to answer for.
func (p *Process) End(sig os.Signal) error {
	if p.cmd == nil || p.cmd.Process == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	late := time.NewTimer(EndWithin)
	defer late.Stop()
	select {
	case err := <-p.exited:
		p.exited <- err
		if err != nil && sig != os.Kill {
			return fmt.Errorf("%s ended with %v:\n%s", p.Name, err, p.tail())
		}
		return nil
	case <-late.C:
		_ = p.cmd.Process.Kill()
		p.exited <- <-p.exited
		return fmt.Errorf("%s does not end within %v of %v", p.Name, EndWithin, sig)
	}
}

// given are the ports that FreePort has given out. As long as this process
// lives it holds the UDP port of the same number, so that another process that
// runs such tests passes the port over while its server is away.
var given struct {
	sync.Mutex
	claims []net.PacketConn
}

// FreePort is a port that nobody uses, below those that the system gives to
// connections, and different each time: a server that is away for a moment
// finds it free again.
func FreePort() (int, error) {
	for range 1000 {
		port := 15_000 + rand.IntN(15_000)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		claim, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			_ = claim.Close()
			continue
		}
		given.Lock()
		given.claims = append(given.claims, claim)
		given.Unlock()
		return port, l.Close()
	}
	return 0, errors.New("no port is free")
}
