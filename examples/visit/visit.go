// Package visit is what the tests of the examples do in the place of a browser.
package visit

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Example is one that runs.
type Example struct {
	tb  testing.TB
	URL string
}

// Start runs an example until the test ends.
func Start(tb testing.TB, serve func(ctx context.Context, ready func(url string)) error) *Example {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, func(url string) { ready <- url }) }()
	select {
	case url := <-ready:
		tb.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				tb.Error(err)
			}
		})
		return &Example{tb, url}
	case err := <-ended:
		cancel()
		tb.Fatalf("it does not start: %v", err)
		return nil
	}
}

// Do makes a request to the backend.
func (e *Example) Do(method, path, token, body string) (status int, answer string) {
	e.tb.Helper()
	r, err := http.NewRequest(method, e.URL+path, strings.NewReader(body))
	if err != nil {
		e.tb.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		e.tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.tb.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// Client is a user's WebSocket.
type Client struct {
	*websocket.Conn
	Token string
	tb    testing.TB
}

// Login logs a user in, and connects with the query; the welcome has come.
func (e *Example) Login(user, query string) *Client {
	e.tb.Helper()
	_, answer := e.Do("POST", "/login?user="+user, "", "")
	var login struct{ Token, Gateway string }
	if err := json.Unmarshal([]byte(answer), &login); err != nil {
		e.tb.Fatalf("%s: %v", answer, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	//nolint:bodyclose // Dial closes it
	conn, _, err := websocket.Dial(ctx, "ws://"+login.Gateway+"/v1/ws?"+query, &websocket.DialOptions{
		Subprotocols: []string{"pushgate.v1", "bearer." + login.Token}, HTTPHeader: http.Header{"Origin": {e.URL}},
	})
	if err != nil {
		e.tb.Fatal(err)
	}
	e.tb.Cleanup(func() { _ = conn.CloseNow() })
	c := &Client{conn, login.Token, e.tb}
	c.Next("welcome")
	return c
}

// Say sends a control message.
func (c *Client) Say(message string) {
	c.tb.Helper()
	if err := c.Write(context.Background(), websocket.MessageText, []byte(message)); err != nil {
		c.tb.Fatal(err)
	}
}

// Frame is what the tests look at.
type Frame struct {
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Cursor  string          `json:"cursor"`
	Replay  bool            `json:"replay"`
	Data    json.RawMessage `json:"data"`
}

// Next is the next frame of that type.
func (c *Client) Next(kind string) Frame {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, b, err := c.Read(ctx)
		if err != nil {
			c.tb.Fatalf("no %s came: %v", kind, err)
		}
		var f Frame
		if err := json.Unmarshal(b, &f); err != nil {
			c.tb.Fatal(err)
		}
		if f.Type == kind {
			return f
		}
	}
}
