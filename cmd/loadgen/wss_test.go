//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// greeter greets clients, sends each a ping and says what came back; a client
// whose token is "no" is closed with 4000 instead.
func greeter(t *testing.T, l net.Listener, answers chan<- string) string {
	t.Helper()
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { greetOne(conn, answers) })
		}
	})
	return l.Addr().String()
}

// listenTLS listens with the certificate that a gateway gets with settings.
func listenTLS(t *testing.T, settings []string) net.Listener {
	t.Helper()
	var files [2]string
	for i := range files {
		_, files[i], _ = strings.Cut(settings[i], "=")
	}
	cert, err := tls.LoadX509KeyPair(files[0], files[1])
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func greetOne(conn net.Conn, answers chan<- string) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	welcome := serverFrame(opText, []byte(`{"type":"welcome"}`))
	if r.Header.Get("Authorization") == "Bearer no" { // a whole token: a signature may end in anything
		_, _ = conn.Write(append(fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\n\r\n%s", welcome), serverFrame(opClose, []byte{15, 160})...))
		return
	}
	// The welcome comes in two parts, the ping with the second.
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n%s", welcome[:5])
	_, _ = conn.Write(append(welcome[5:], serverFrame(opPing, []byte("hi"))...))
	pong := make([]byte, len(clientFrame(opPong, []byte("hi"))))
	if _, err := io.ReadFull(in, pong); err == nil {
		answers <- string(pong)
	}
	_, _ = io.Copy(io.Discard, in)
}

func TestCrowd(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	clients, settings, err := certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const n = 20
	answers := make(chan string, n)
	server := target{Addr: greeter(t, listenTLS(t, settings), answers), Protocol: "pushgate", Secret: "s", tls: clients}
	h, err := server.hold(ctx, 0, n)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close() // also when the test ends here: the greeter waits for it
	for range n {
		select {
		case got := <-answers:
			if got != string(clientFrame(opPong, []byte("hi"))) {
				t.Errorf("a ping is answered with %q", got)
			}
		case <-ctx.Done():
			t.Fatal("a ping is not answered")
		}
	}
	if h.crowd == nil || h.dropped() != 0 {
		t.Errorf("%d sessions were dropped", h.dropped())
	}
	h.close()

	server.tokens = []string{"no"}
	c, err := server.dialTLS(ctx, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	c.readers.Wait()
	if c.gone.Load() != 1 {
		t.Error("a session that the server ended is not counted")
	}
	c.close()

	server.tokens, server.tls = nil, &tls.Config{ServerName: "127.0.0.1"} // does not know the certificate
	if _, err := server.hold(ctx, 0, 3); err == nil {
		t.Error("an unknown certificate is trusted")
	}
}

func TestFleetCountsCloses(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := target{Addr: greeter(t, l, nil), Protocol: "pushgate", tokens: slices.Repeat([]string{"no"}, 30)}
	began := time.Now()
	f, err := server.dial(ctx, 0, 30)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	select {
	case <-f.ended:
	case <-ctx.Done():
		t.Fatal("that all have ended is not said")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closes[4000] != 30 || len(f.closes) != 1 || f.gone.Load() != 30 || !f.last.After(began) {
		t.Errorf("closes %v, gone %d, last at %v", f.closes, f.gone.Load(), f.last)
	}
}
