// Package local starts what an example needs around it on this machine: a NATS
// server in this process, and a gateway as a process of its own, built from
// this repository. In production both stand elsewhere, and an application knows
// only the address of NATS and how tokens are signed.
package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// secret is what this backend signs its tokens with, and the gateway verifies
// them with.
const secret = "an example's secret; yours is random"

// Local is NATS, with a connection to it, and a gateway.
type Local struct {
	NATS    *nats.Conn
	Gateway string // host and port

	server *server.Server
	child  *exec.Cmd
	logged chan struct{} // closed when the gateway's log has ended
	dir    string
}

// Start starts everything; its caller closes it. Pages of the origin may
// connect. config is YAML for the gateway, or empty.
func Start(ctx context.Context, origin, config string) (_ *Local, err error) {
	l := &Local{}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "pushgate-example-"); err != nil {
		return nil, err
	}
	l.server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: l.dir, NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, err
	}
	l.server.Start()
	if !l.server.ReadyForConnections(startWithin) {
		return nil, errors.New("the NATS server does not start")
	}
	if l.NATS, err = nats.Connect(l.server.ClientURL(), nats.Timeout(startWithin)); err != nil {
		return nil, err
	}
	return l, l.startGateway(ctx, origin, config)
}

// startWithin is how long anything may take to start.
const startWithin = time.Minute

func (l *Local) startGateway(ctx context.Context, origin, config string) error {
	module, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	binary, file := filepath.Join(l.dir, "gateway"), filepath.Join(l.dir, "gateway.yaml")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "nodev", "-o", binary, "./cmd/gateway")
	build.Dir, build.Stderr = filepath.Dir(strings.TrimSpace(string(module))), os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the gateway: %w", err)
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	child := exec.Command(binary, "serve", "--config", file)
	child.Env = append(os.Environ(),
		"GATEWAY_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_DEBUG_LISTEN=",
		"GATEWAY_NATS_URL="+l.server.ClientURL(), "GATEWAY_AUTH_HS256_SECRET="+secret, "GATEWAY_AUTH_ORIGINS="+origin,
		"GATEWAY_DURABLE_STREAM=PUSH", "GATEWAY_DURABLE_CREATE=true", "GATEWAY_LOG_LEVEL=info",
		"GATEWAY_DRAIN_DELAY=0s", "GATEWAY_DRAIN_WINDOW=100ms")
	log, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		return err
	}
	l.child, l.logged = child, make(chan struct{})
	up := make(chan addresses, 1)
	go func() {
		defer close(l.logged)
		follow(log, up)
	}()
	limit := time.After(startWithin)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ready := ""; ; {
		select {
		case at := <-up:
			l.Gateway, ready = at.Listen, "http://"+at.Admin+"/readyz"
		case <-tick.C:
		case <-l.logged:
			return errors.New("the gateway has ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return errors.New("the gateway does not start")
		}
		// It is ready when it has NATS and the stream.
		if ready != "" && answers(ready) {
			return nil
		}
	}
}

// addresses are where a gateway listens, as it logs it when it is up.
type addresses struct{ Listen, Admin string }

// follow reads a gateway's log. What goes wrong is shown.
func follow(log io.Reader, up chan<- addresses) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct {
			Level, Msg string
			addresses
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Level == "error" {
			_, _ = fmt.Fprintln(os.Stderr, lines.Text())
		}
		if line.Msg == "gateway is up" {
			up <- line.addresses
		}
	}
}

func answers(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Token says who a client is, and what it may subscribe to by itself.
func (l *Local) Token(user string, subscribe ...string) (string, error) {
	now := time.Now()
	claims := jwt.MapClaims{"sub": user, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	if len(subscribe) > 0 {
		claims["subscribe"] = subscribe
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
}

// User is whose token a request to the backend carries: the same one that the
// client shows to the gateway.
func (l *Local) User(r *http.Request) (string, error) {
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return []byte(secret), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	if err != nil {
		return "", err
	}
	return token.Claims.GetSubject()
}

// Close ends the gateway, then NATS.
func (l *Local) Close() {
	if l.child != nil {
		if l.child.Process.Signal(os.Interrupt) != nil { // Windows has none
			_ = l.child.Process.Kill()
		}
		<-l.logged
		_ = l.child.Wait()
	}
	if l.NATS != nil {
		l.NATS.Close()
	}
	if l.server != nil {
		l.server.Shutdown()
		l.server.WaitForShutdown()
	}
	_ = os.RemoveAll(l.dir)
}

// Serve serves a backend on listen until ctx ends. It starts everything, has
// routes add what the backend answers, and calls ready with its address.
func Serve(ctx context.Context, listen, config string, ready func(url string), routes func(*Local, *http.ServeMux) error) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }()
	url := "http://" + ln.Addr().String()
	l, err := Start(ctx, url, config)
	if err != nil {
		return err
	}
	defer l.Close()
	mux := http.NewServeMux()
	if err := routes(l, mux); err != nil {
		return err
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	ready(url)
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
