package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"pushgate/api"
)

// script is what the gateway does with one connection.
type script func(t *testing.T, conn net.Conn)

// fakeGateway serves one connection after the other, a script each, and returns
// its URL.
func fakeGateway(t *testing.T, scripts ...script) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, play := range scripts {
			conn, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.SetDeadline(time.Now().Add(comesWithin))
			play(t, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return "ws://" + l.Addr().String() + "/v1/ws"
}

const welcome = `{"type":"welcome","heartbeat":60}`

func event(n int) string { return fmt.Sprintf(`{"type":"event","data":%d}`, n) }

// accept upgrades and sends the frames in the same write as the answer.
func accept(t *testing.T, conn net.Conn, wantToken string, frames ...string) {
	var answer bytes.Buffer
	got := ""
	u := ws.Upgrader{
		Protocol: func(p []byte) bool { return string(p) == "pushgate.v1" },
		OnHeader: func(key, value []byte) error {
			if string(key) == "Authorization" {
				got = string(value)
			}
			return nil
		},
	}
	if _, err := u.Upgrade(struct {
		io.Reader
		io.Writer
	}{conn, &answer}); err != nil {
		t.Error(err)
		return
	}
	if wantToken != "" && got != "Bearer "+wantToken {
		t.Errorf("got Authorization %q", got)
	}
	for _, f := range frames {
		if err := wsutil.WriteServerText(&answer, []byte(f)); err != nil {
			t.Error(err)
		}
	}
	if _, err := conn.Write(answer.Bytes()); err != nil {
		t.Error(err)
	}
}

func say(t *testing.T, conn net.Conn, frame ws.Frame) {
	if err := ws.WriteFrame(conn, frame); err != nil {
		t.Error(err)
	}
}

// hear reads one frame of the client.
func hear(t *testing.T, conn net.Conn) ws.Frame {
	h, err := ws.ReadHeader(conn)
	if err != nil {
		t.Errorf("the client is silent: %v", err)
		return ws.Frame{}
	}
	if h.Length > 1<<10 {
		t.Fatalf("the client sends a frame of %d bytes", h.Length)
	}
	frame := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	if _, err := io.ReadFull(conn, frame.Payload); err != nil {
		t.Errorf("the client's frame is not whole: %v", err)
	}
	return ws.UnmaskFrameInPlace(frame)
}

func bye(code uint16, reason string) ws.Frame {
	return ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(code), reason))
}

func closeWith(code uint16, reason string, frames ...string) script {
	return func(t *testing.T, conn net.Conn) {
		accept(t, conn, "", frames...)
		say(t, conn, bye(code, reason))
		if f := hear(t, conn); f.Header.OpCode != ws.OpClose {
			t.Errorf("the close frame is answered with %v", f.Header.OpCode)
		}
	}
}

func refuseWith(r api.Refusal) script {
	return func(t *testing.T, conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Error(err)
		}
		_, _ = conn.Write(api.AppendRefusal(nil, r, api.CORS{}))
	}
}

func counted(first, last int) script {
	return func(t *testing.T, conn net.Conn) {
		frames := []string{welcome}
		for i := first; i <= last; i++ {
			frames = append(frames, event(i))
		}
		accept(t, conn, "", frames...)
		if f := hear(t, conn); f.Header.OpCode != ws.OpClose {
			t.Errorf("the client leaves with %v", f.Header.OpCode)
		}
	}
}
