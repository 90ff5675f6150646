package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/gobwas/ws"

	"pushgate/api"
)

func TestTailPrints(t *testing.T) {
	url := fakeGateway(t, func(t *testing.T, conn net.Conn) {
		accept(t, conn, "tok", welcome, event(1))
		say(t, conn, ws.NewPingFrame([]byte("are you there")))
		if f := hear(t, conn); f.Header.OpCode != ws.OpPong || string(f.Payload) != "are you there" {
			t.Errorf("the ping is answered with %v %q", f.Header.OpCode, f.Payload)
		}
		// A message in two pieces with a line break.
		say(t, conn, ws.NewFrame(ws.OpText, false, []byte("{\"type\":\"ev")))
		say(t, conn, ws.NewFrame(ws.OpContinuation, true, []byte("ent\",\n\"data\":2}")))
		if f := hear(t, conn); f.Header.OpCode != ws.OpClose || len(f.Payload) < 2 {
			t.Errorf("the client leaves with %v", f.Header.OpCode)
		}
	})
	got := command([]string{"GATEWAY_TOKEN=tok"}, nil, "tail", "--url", url, "--count", "2")
	want := welcome + "\n" + event(1) + "\n" + `{"type":"event", "data":2}` + "\n"
	if got != (outcome{0, want, ""}) {
		t.Errorf("got %+v", got)
	}
}

func TestTailEndings(t *testing.T) {
	tests := []struct {
		name    string
		once    bool
		scripts []script
		code    int
		want    []string // in standard error
	}{
		{"drain", false, []script{closeWith(1001, "going away", welcome, `{"type":"drain","reconnect_after_ms":1}`), counted(1, 2)}, 0, []string{"closed with 1001 going away; connecting again in 1ms"}},
		{"slow", false, []script{closeWith(4100, "slow consumer", welcome, event(1)), counted(2, 2)}, 0, []string{"closed with 4100 slow consumer; connecting again"}},
		{"lost", false, []script{func(t *testing.T, conn net.Conn) { accept(t, conn, "", welcome) }, counted(1, 2)}, 0, []string{"the connection was lost; connecting again"}},
		{"expired, with a new token", false, []script{closeWith(4200, "token expired", welcome), counted(1, 2)}, 0, []string{"closed with 4200 token expired; connecting again in 1ms"}},
		{"disconnected", false, []script{closeWith(4000, "disconnected by the backend", welcome)}, 1, []string{"gateway: closed with 4000 disconnected by the backend"}},
		{"broken", false, []script{closeWith(1008, "too many messages")}, 1, []string{"closed with 1008"}},
		{"once, orderly", true, []script{closeWith(1001, "going away", welcome)}, 0, []string{"closed with 1001 going away"}},
		{"once, slow", true, []script{closeWith(4100, "slow consumer", welcome)}, 1, []string{"closed with 4100"}},
		{"token refused", false, []script{refuseWith(api.Refusal{Kind: api.RefusedToken, Message: "The token has expired.", BadToken: true})}, 1, []string{"refused with status 401, unauthorized: The token has expired."}},
		{"full for a moment", false, []script{refuseWith(api.Refusal{Kind: api.RefusedFull, Message: "Full."}), counted(1, 2)}, 0, []string{"refused with status 503, full: Full.; connecting again"}},
		{"no gateway at all", false, []script{func(t *testing.T, conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
		}}, 1, []string{"refused with status 404, Not Found"}},
		{"nonsense in the reason", true, []script{closeWith(4000, "a\x1b[31mb", welcome)}, 1, []string{"closed with 4000"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"tail", "--url", fakeGateway(t, tt.scripts...), "--sub", "alice", "--count", "2"}
			if tt.once {
				args = append(args, "--once")
			}
			got := command([]string{secretVariable}, nil, args...)
			if got.code != tt.code {
				t.Errorf("got %+v, want %d", got, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(got.errors, want) {
					t.Errorf("%q is not in %q", want, got.errors)
				}
			}
			if strings.Contains(got.errors, "\x1b") {
				t.Errorf("a control character shows: %q", got.errors)
			}
		})
	}
}

// A token that cannot be made anew is not tried again.
func TestTailExpired(t *testing.T) {
	url := fakeGateway(t, closeWith(4200, "token expired", welcome))
	got := command(nil, nil, "tail", "--url", url, "--token", "tok")
	if got.code != 1 || !strings.Contains(got.errors, "closed with 4200 token expired") {
		t.Errorf("got %+v", got)
	}
}

func TestTailNobodyThere(t *testing.T) {
	got := command(nil, nil, "tail", "--token", "tok", "--once", "--url", "ws://"+heldAddr(t).String())
	if got.code != 1 || !strings.Contains(got.errors, "cannot connect") || strings.Contains(got.errors, "tok") {
		t.Errorf("got %+v", got)
	}
}

func TestTailInterrupted(t *testing.T) {
	url := fakeGateway(t, func(t *testing.T, conn net.Conn) {
		accept(t, conn, "tok", welcome)
		// The answer to a ping shows that the client has done with dialing.
		say(t, conn, ws.NewPingFrame(nil))
		hear(t, conn)
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Error(err)
			return
		}
		if err := self.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if f := hear(t, conn); f.Header.OpCode != ws.OpClose {
			t.Errorf("the client leaves with %v", f.Header.OpCode)
		}
	})
	if got := command(nil, nil, "tail", "--token", "tok", "--url", url); got.code != 0 {
		t.Errorf("got %+v", got)
	}
}

// Output that nobody reads ends tail instead of connecting again for ever.
func TestTailClosedOutput(t *testing.T) {
	url := fakeGateway(t, func(t *testing.T, conn net.Conn) {
		accept(t, conn, "", welcome)
		hear(t, conn)
	})
	r, w := io.Pipe()
	_ = r.Close()
	tl := &tail{url: url, token: func() (string, error) { return "tok", nil }, out: w, notes: io.Discard}
	if err := tl.run(context.Background()); err == nil || !strings.Contains(err.Error(), "closed pipe") {
		t.Errorf("got %v", err)
	}
}

func TestTailURL(t *testing.T) {
	for listen, want := range map[string]string{
		":8080": "ws://127.0.0.1:8080/v1/ws", "0.0.0.0:1": "ws://127.0.0.1:1/v1/ws", "[::]:1": "ws://127.0.0.1:1/v1/ws",
		"[::1]:1": "ws://[::1]:1/v1/ws", "gw.example:80": "ws://gw.example:80/v1/ws",
	} {
		if got, err := tailURL("", &Config{Listen: listen}); err != nil || got != want {
			t.Errorf("%s: got %q, %v", listen, got, err)
		}
	}
}

func TestSignals(t *testing.T) {
	ctx, hurry, stop := signals()
	defer stop()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	select {
	case <-hurry:
		t.Error("one signal hurries")
	default:
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-hurry
}
