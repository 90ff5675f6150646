// Package local starts what an example needs around it on this machine: a NATS
// server in this process, and a gateway as a process of its own, built from
// this repository. In production both stand elsewhere, and an application knows
// only the address of NATS and how tokens are signed.
package local

import (
	"context"
	"errors"
	"fmt"
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
	if !l.server.ReadyForConnections(30 * time.Second) {
		return nil, errors.New("the NATS server does not start")
	}
	if l.NATS, err = nats.Connect(l.server.ClientURL()); err != nil {
		return nil, err
	}
	return l, l.startGateway(ctx, origin, config)
}

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
	if l.Gateway, err = freePort(); err != nil {
		return err
	}
	l.child = exec.Command(binary, "serve", "--config", file)
	l.child.Env = append(os.Environ(),
		"GATEWAY_LISTEN="+l.Gateway, "GATEWAY_ADMIN_LISTEN=127.0.0.1:0", "GATEWAY_ADMIN_DEBUG_LISTEN=",
		"GATEWAY_NATS_URL="+l.server.ClientURL(), "GATEWAY_AUTH_HS256_SECRET="+secret, "GATEWAY_AUTH_ORIGINS="+origin,
		"GATEWAY_DURABLE_STREAM=PUSH", "GATEWAY_DURABLE_CREATE=true", "GATEWAY_LOG_LEVEL=error",
		"GATEWAY_DRAIN_DELAY=0s", "GATEWAY_DRAIN_WINDOW=100ms")
	l.child.Stderr = os.Stderr
	if err := l.child.Start(); err != nil {
		l.child = nil
		return err
	}
	// It is there as soon as it refuses a request that has no token.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for {
		if resp, err := http.Get("http://" + l.Gateway + "/v1/events"); err == nil {
			_ = resp.Body.Close()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return errors.New("the gateway does not start")
		}
	}
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
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
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	ready(url)
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
