package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

// TestMain checks that nothing stays behind. goleak itself waits for less than
// half a second, which is no time for the last goroutines of a busy machine.
func TestMain(m *testing.M) {
	code := m.Run()
	left := goleak.Find()
	for end := time.Now().Add(patience); left != nil && time.Now().Before(end); {
		left = goleak.Find()
	}
	if code == 0 && left != nil {
		_, _ = fmt.Fprintln(os.Stderr, left)
		code = 1
	}
	os.Exit(code)
}

// patience bounds everything that the tests wait for.
const patience = time.Minute

// peer runs the program for the test and returns what its ready line names.
func peer(t *testing.T, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, args, in)
		_ = in.CloseWithError(errors.Join(io.EOF, err))
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			t.Error("run does not end")
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("before ready: %v", err)
	}
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "ready" {
		t.Fatalf("not the ready line: %q", line)
	}
	return words[1:]
}

func connect(t *testing.T, url, scheme string) *nats.Conn {
	t.Helper()
	if !strings.HasPrefix(url, scheme+"://127.0.0.1:") {
		t.Fatalf("%q is no %s URL", url, scheme)
	}
	nc, err := nats.Connect(url, nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestWebSocket(t *testing.T) {
	urls := peer(t, "-debug", "127.0.0.1:0")
	if len(urls) != 2 {
		t.Fatalf("ready names %q", urls)
	}
	backend, client := connect(t, urls[0], "nats"), connect(t, urls[1], "ws")
	for _, c := range []struct {
		subject  string
		from, to *nats.Conn
	}{
		{"push.user.alice", backend, client},
		{"push.broadcast", client, backend},
	} {
		sub, err := c.to.SubscribeSync(c.subject)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.to.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
		if err := c.from.Publish(c.subject, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		m, err := sub.NextMsg(patience)
		if err != nil || string(m.Data) != "hello" {
			t.Errorf("%s: %v, %v", c.subject, m, err)
		}
	}
}

func TestWithoutWebSocket(t *testing.T) {
	urls := peer(t, "-ws-port", "-1")
	if len(urls) != 1 {
		t.Fatalf("ready names %q", urls)
	}
	if err := connect(t, urls[0], "nats").FlushTimeout(patience); err != nil {
		t.Error(err)
	}
}

func TestJetStream(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{
		{nil, false},
		{[]string{"-jetstream", t.TempDir()}, true},
	} {
		urls := peer(t, append(c.args, "-ws-port", "-1")...)
		_, err := connect(t, urls[0], "nats").Request("$JS.API.INFO", nil, patience)
		if got := err == nil; got != c.want {
			t.Errorf("%q: JetStream is there: %v, %v", c.args, got, err)
		}
	}
}

func TestBadPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	u := url.URL{Host: taken.Addr().String()}
	for _, args := range [][]string{
		{"-port", u.Port()}, {"-ws-port", u.Port()}, {"-port", "-1"}, {"-ws-port", "65536"}, {"extra"},
	} {
		if err := run(context.Background(), args, io.Discard); err == nil {
			t.Errorf("%q: it runs", args)
		}
	}
}

func TestDebug(t *testing.T) {
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodPost, "/debug/freemem", http.StatusNoContent},
		{http.MethodGet, "/debug/pprof/goroutine?debug=1", http.StatusOK},
	} {
		w := httptest.NewRecorder()
		debugRoutes().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.want {
			t.Errorf("%s %s: %d", c.method, c.path, w.Code)
		}
	}
}
