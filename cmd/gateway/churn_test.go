package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestComingsAndGoings has thousands of clients connect and leave in every
// way, with real tokens, while a backend publishes through a real NATS; then
// nothing of them is left.
func TestComingsAndGoings(t *testing.T) {
	for _, interest := range []string{"wildcard", "exact"} {
		t.Run(interest, func(t *testing.T) {
			g := startGateway(t, "GATEWAY_NATS_INTEREST="+interest)
			g.connect("warm").quit(t) // the runtime's poller has its descriptors now
			eventually(t, "nobody is there", func() bool { return g.hub.Stats().Sessions == 0 })
			files, goroutines := sockets(t), runtime.NumGoroutine()

			stop, published := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(published)
				pace := time.NewTicker(200 * time.Microsecond)
				defer pace.Stop()
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-pace.C:
						_ = g.nats.Publish(fmt.Sprint("push.user.u", i%40), []byte(`{"n":1}`))
						_ = g.nats.Publish("push.broadcast", []byte("all"))
					}
				}
			}()
			tokens := make([]string, 40)
			for i := range tokens {
				tokens[i] = g.token(fmt.Sprint("u", i))
			}
			var workers sync.WaitGroup
			for w := range 6 {
				workers.Go(func() {
					rng := rand.New(rand.NewPCG(7, uint64(w)))
					for range 200 {
						comeAndGo(t, g.addr.String(), tokens[rng.IntN(len(tokens))], rng.IntN(5))
					}
				})
			}
			workers.Wait()
			close(stop)
			<-published

			// Somebody who is long gone may still wait to be accepted, and come
			// between two readings.
			ended := int64(0)
			eventually(t, "all sessions end, and each is counted once", func() bool {
				st := g.hub.Stats()
				ended = sum(st.Closes)
				return st.Sessions == 0 && st.HalfOpen == 0 && st.Outbox == 0 && ended == st.Handshakes["accepted"]
			})
			if ended < 500 {
				t.Errorf("only %d sessions began", ended)
			}
			eventually(t, "NATS is asked for nothing of theirs", func() bool { return g.bus.Stats().Subjects == 0 })
			eventually(t, "no descriptor is left", func() bool { return sockets(t) <= files })
			eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
		})
	}
}

// comeAndGo is one client.
func comeAndGo(t *testing.T, addr, token string, way int) {
	began := time.Now()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(2 * comesWithin))
	_, _ = fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n", addr, token)
	if way == 0 {
		_ = conn.(*net.TCPConn).SetLinger(0) // gone before the answer
		return
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil && tooLate(began, 0, err) || err == nil && tooLate(began, resp.StatusCode, nil) {
		return // that, too, is a way to go
	}
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("the handshake gave %v, %v", resp, err)
		return
	}
	switch way {
	case 1: // says goodbye and awaits the answer
		_, _ = conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
		_, _ = io.Copy(io.Discard, r)
	case 2: // a reset
		_ = conn.(*net.TCPConn).SetLinger(0)
	case 3: // breaks the protocol
		_, _ = conn.Write([]byte{0xff, 0x80, 0, 0, 0, 0})
		_, _ = io.Copy(io.Discard, r)
	case 4: // leaves after an event or two
		_, _ = r.Peek(400)
	}
}

// quit says goodbye and awaits the answer, for as long as the library does.
func (c *wsClient) quit(t *testing.T) {
	t.Helper()
	if err := c.Close(1000, ""); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// sockets counts this process's, where the system tells.
func sockets(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
