package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// gateway is a running gateway that echoes.
type gateway struct {
	addr  string
	token string
}

// startGateway builds a gateway that can echo and runs gateway dev until the
// test ends. The token is one that it prints.
func startGateway(t *testing.T, tags string) *gateway {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gateway")
	build := exec.Command("go", "build", "-tags", strings.Trim("echotest,"+tags, ","), "-o", path, "pushgate/cmd/gateway")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the gateway: %v\n%s", err, out)
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	cmd := exec.Command(path, "dev", "--listen", "127.0.0.1:0", "--admin.listen", "127.0.0.1:0",
		"--admin.debug_listen", "127.0.0.1:0", "--dev.nats_listen", "127.0.0.1:0", "--limits.message_bytes", "32MiB",
		"--heartbeat", "15m") // a ping in between is no part of any case, however long it takes
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GATEWAY_") { // it refuses those that it does not know
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GATEWAY_AUTH_HS256_SECRET="+hex.EncodeToString(secret[:]))
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("the gateway's output ends with:\n%s", out.tail())
		}
	})
	g, admin := out.greeting(t, exited)
	for !ready(t.Context(), admin) {
		select {
		case <-exited:
			t.Fatalf("the gateway ended:\n%s", out.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return g
}

func ready(ctx context.Context, admin string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// output is what the gateway prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) tail() string {
	s := o.String()
	return s[max(0, len(s)-4000):]
}

// greeting waits for what dev prints for people, and takes the addresses and
// the token out of it.
func (o *output) greeting(t *testing.T, exited <-chan struct{}) (g *gateway, admin string) {
	t.Helper()
	words := regexp.MustCompile(`(?s)page +http://(\S+)/\n.*metrics +http://(\S+)/metrics\n.*token for user \w+:\n +(\S+)\n`)
	late := time.After(patience)
	for {
		if m := words.FindStringSubmatch(o.String()); m != nil {
			return &gateway{addr: m[1], token: m[3]}, m[2]
		}
		select {
		case <-exited:
			t.Fatalf("the gateway ended:\n%s", o.tail())
		case <-late:
			t.Fatalf("the gateway does not start:\n%s", o.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// table is the report: a line a case.
func table(verdicts []verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-14s %-14s %8s\n", "case", "behaviour", "close", "took")
	for _, v := range verdicts {
		fmt.Fprintf(&b, "%-8s %-14s %-14s %8s\n", v.id, v.behaviour, v.close, v.took.Round(time.Millisecond))
	}
	return b.String()
}
