//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"pushgate/test/servers"
)

// client is one session of a user, whose events are numbered from 1.
type client struct {
	user string

	mu         sync.Mutex
	numbers    []int // of its events, as they came
	arrivals   []time.Time
	incomplete bool  // it was told so
	ended      error // how its connection ended
}

func token(t *testing.T, user string) string {
	t.Helper()
	token, err := servers.Token(user)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// connect opens a session, which lives as long as the test.
func connect(t *testing.T, addr, user string) *client {
	t.Helper()
	return connectTo(t, "ws://"+addr+"/v1/ws", user)
}

func connectTo(t *testing.T, url, user string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := dial(ctx, url, user)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	c := &client{user: user}
	var reading sync.WaitGroup
	reading.Go(func() { c.read(conn) })
	t.Cleanup(func() {
		_ = conn.CloseNow()
		reading.Wait()
	})
	return c
}

// headWithin is less than a gateway waits for a request head.
const headWithin = 4 * time.Second

// dial opens a connection, and tries again where this machine was so slow with
// the request head that a gateway does not wait for it.
func dial(ctx context.Context, url, user string) (*websocket.Conn, error) {
	token, err := servers.Token(user)
	if err != nil {
		return nil, err
	}
	for {
		began := time.Now()
		conn, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
		})
		late := resp == nil && time.Since(began) > headWithin || resp != nil && resp.StatusCode == http.StatusRequestTimeout
		if err == nil || !late || ctx.Err() != nil {
			return conn, err
		}
	}
}

func (c *client) read(conn *websocket.Conn) {
	for {
		_, b, err := conn.Read(context.Background())
		c.mu.Lock()
		if err != nil {
			c.ended = err
			c.mu.Unlock()
			return
		}
		var f struct {
			Type     string
			Complete bool
			Data     struct{ N int }
		}
		if err := json.Unmarshal(b, &f); err != nil {
			c.ended = fmt.Errorf("the frame %q: %w", b, err)
		}
		switch f.Type {
		case "event":
			c.numbers = append(c.numbers, f.Data.N)
			c.arrivals = append(c.arrivals, time.Now())
		case "resumed":
			c.incomplete = c.incomplete || !f.Complete
		}
		c.mu.Unlock()
	}
}

// has waits until the client has its events 1 to n, and sees that each came
// once, in order, on the one connection.
func (c *client) has(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s has %d events", c.user, n), func(context.Context) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.numbers) >= n || c.ended != nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	want := make([]int, n)
	for i := range want {
		want[i] = i + 1
	}
	if !slices.Equal(c.numbers, want) {
		t.Fatalf("%s got %d events of %d: %v", c.user, len(c.numbers), n, c.numbers)
	}
	if c.ended != nil || c.incomplete {
		t.Fatalf("%s: the connection ended with %v; told incomplete: %v", c.user, c.ended, c.incomplete)
	}
}
