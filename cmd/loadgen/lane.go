//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// laneNames are the ways to get events.
var laneNames = []string{"polling", "long polling", "SSE", "WebSocket"}

// lane is the clients that get events in one way, a goroutine each: it is the
// gateway that is measured.
type lane struct {
	target *target
	name   string
	every  time.Duration // of polling
	now    time.Time     // when tokens were issued
	ready  chan error    // one for each client that has begun, or could not
	run    atomic.Pointer[run]

	requests, empty, up, down atomic.Int64

	mu  sync.Mutex
	err error // the first that ended a client
}

// laneReading is what a lane has cost so far.
type laneReading struct{ requests, empty, up, down, cpu float64 }

func (l *lane) reading() (laneReading, error) {
	cpu, err := l.target.cpu()
	return laneReading{float64(l.requests.Load()), float64(l.empty.Load()), float64(l.up.Load()), float64(l.down.Load()), cpu.Seconds()}, err
}

func (l *lane) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// meter is a connection whose bytes are counted, HTTP's own included, those of
// TCP and IP not.
type meter struct {
	net.Conn
	lane *lane
}

func (m meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	m.lane.down.Add(int64(n))
	return n, err
}

func (m meter) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	m.lane.up.Add(int64(n))
	return n, err
}

// laneClient is one client, and its only connection.
type laneClient struct {
	*lane
	number  int
	conn    meter
	in      *bufio.Reader
	tracker tracker
	begun   bool
	token   string // one for its life
}

// client gets events until ctx ends, which closes its connection.
func (l *lane) client(ctx context.Context, i int) {
	c := &laneClient{lane: l, number: i, token: l.target.token(i, l.now)}
	err := c.get(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = errors.New("the gateway ended it")
	}
	err = fmt.Errorf("client %d: %w", i, err)
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
	if !c.begun {
		l.ready <- err
	}
}

func (c *laneClient) get(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: greetWithin}).DialContext(ctx, "tcp", c.target.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	c.conn = meter{conn, c.lane}
	c.in = bufio.NewReader(c.conn)
	switch c.name {
	case "polling":
		return c.poll(ctx, "0s", c.every)
	case "long polling":
		return c.poll(ctx, "25s", 0)
	case "SSE":
		return c.events()
	default:
		return c.frames()
	}
}

// begin says that the client gets what is published from now on.
func (c *laneClient) begin() {
	if !c.begun {
		c.begun = true
		c.ready <- nil
	}
}

func (c *laneClient) take(b []byte) {
	if r := c.run.Load(); r != nil {
		r.take(&c.tracker, b, time.Now().UnixNano())
	}
}

// ask sends a request for events.
func (c *laneClient) ask(query, accept string) error {
	c.requests.Add(1)
	_, err := fmt.Fprintf(c.conn, "GET /v1/events%s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\nAuthorization: Bearer %s\r\n\r\n",
		query, c.target.Addr, accept, c.token)
	return err
}

// poll asks again and again, on one connection. The first request, which only
// brings the place to go on from, does not wait.
func (c *laneClient) poll(ctx context.Context, wait string, every time.Duration) error {
	query := "?wait=0s"
	for {
		if err := c.ask(query, "application/json"); err != nil {
			return err
		}
		cursor, err := c.answer()
		if err != nil {
			return err
		}
		query = "?wait=" + wait + "&cursor=" + cursor
		pause := every
		if !c.begun {
			pause = time.Duration(rand.Int64N(int64(every) + 1)) // spread over the time between polls
		}
		c.begin()
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// answer reads one to a poll, and returns the place to go on from.
func (c *laneClient) answer() (string, error) {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("it is answered %s: %s", resp.Status, body)
	}
	var a struct {
		Events []json.RawMessage `json:"events"`
		Cursor string            `json:"cursor"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return "", err
	}
	if len(a.Events) == 0 {
		c.empty.Add(1)
	}
	c.take(body)
	return a.Cursor, nil
}

// events reads a stream of server-sent events.
func (c *laneClient) events() error {
	if err := c.ask("", "text/event-stream"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it is answered %s", resp.Status)
	}
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(line), "event: welcome") {
			c.begin()
		}
		if bytes.HasPrefix(line, []byte("data:")) {
			c.take(line)
		}
	}
}

// frames reads a WebSocket.
func (c *laneClient) frames() error {
	c.requests.Add(1)
	if _, err := c.conn.Write(c.target.head(c.number, c.now)); err != nil {
		return err
	}
	pending, err := greeted(c.conn)
	if err != nil {
		return err
	}
	c.begin()
	buf := make([]byte, 4<<10)
	for {
		op, body, rest, ok, err := nextFrame(pending)
		switch {
		case err != nil:
			return err
		case !ok:
			n, err := c.conn.Read(buf)
			if err != nil {
				return err
			}
			pending = append(bytes.Clone(pending), buf[:n]...)
			continue
		case op == opPing:
			if _, err := c.conn.Write(clientFrame(opPong, body)); err != nil {
				return err
			}
		case op == opClose:
			return errors.New("it was closed")
		default:
			c.take(body)
		}
		pending = rest
	}
}
