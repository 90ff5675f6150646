package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coder/websocket"

	"pushgate/api"
	"pushgate/test/servers"
)

const (
	dialWithin  = 20 * time.Second
	pingEvery   = time.Second
	silentAfter = 30 * time.Second      // a busy machine can be as long about a pong
	backOff     = 20 * time.Millisecond // at first; it doubles
	backOffMost = 500 * time.Millisecond
)

// client is what a client library is to an app: it keeps a connection and its
// place in the stream, and gives the app each event once. What it gave is
// written down.
type client struct {
	user  string
	token string
	addrs []string // it goes to any of them that is ready
	ready func(ctx context.Context, addr string) bool

	mu    sync.Mutex
	begin api.Position // where the first welcome put it
	at    api.Position // everything up to here it has
	heard time.Time    // when the last frame came
	left  time.Time    // when the last session ended
	log   record
	seen  tally
}

// tally is what a client met beside events.
type tally struct {
	Sessions    int `json:"sessions"`
	Refused     int `json:"refused"` // dials that led to no session
	Resumed     int `json:"resumed"`
	Incomplete  int `json:"resumed_incomplete"`
	Replayed    int `json:"replayed"`
	Dropped     int `json:"dropped"` // as told by the gateway
	Silent      int `json:"silent"`  // connections given up, because nothing came any more
	Errors      int `json:"errors"`  // error frames, and frames that cannot be read
	OtherStream int `json:"other_stream"`

	Row     int           `json:"refused_in_a_row"`            // at most
	Outside time.Duration `json:"longest_outside_nanoseconds"` // between two sessions

	Closes map[int]int `json:"closes"` // by code; -1 is none
}

func (t *tally) add(o tally) {
	t.Sessions += o.Sessions
	t.Refused += o.Refused
	t.Resumed += o.Resumed
	t.Incomplete += o.Incomplete
	t.Replayed += o.Replayed
	t.Dropped += o.Dropped
	t.Silent += o.Silent
	t.Errors += o.Errors
	t.OtherStream += o.OtherStream
	t.Row, t.Outside = max(t.Row, o.Row), max(t.Outside, o.Outside)
	for code, n := range o.Closes {
		if t.Closes == nil {
			t.Closes = map[int]int{}
		}
		t.Closes[code] += n
	}
}

// run keeps a session until ctx ends, or until a close code says to stop.
func (c *client) run(ctx context.Context) {
	row := 0
	for tries := 0; ctx.Err() == nil; tries++ {
		opened, wait, stop := c.session(ctx)
		if stop {
			return
		}
		row++
		if opened {
			tries, row = 0, 0
		}
		c.note(func(t *tally) { t.Row = max(t.Row, row) })
		if wait == 0 {
			wait = rand.N(min(backOffMost, backOff<<min(tries, 10)))
		}
		_ = servers.Pause(ctx, wait)
	}
}

// session is one connection, from the dial to its end. wait is what the
// gateway asked for.
func (c *client) session(ctx context.Context) (opened bool, wait time.Duration, stop bool) {
	c.mu.Lock()
	cursor := c.at.Cursor()
	c.mu.Unlock()
	addr := c.addrs[rand.IntN(len(c.addrs))]
	if !c.ready(ctx, addr) {
		c.note(func(t *tally) { t.Refused++ })
		return false, 0, false
	}
	conn, err := dial(ctx, addr, c.token, cursor)
	if err != nil {
		c.note(func(t *tally) { t.Refused++ })
		return false, 0, false
	}
	defer func() { _ = conn.CloseNow() }()
	c.mu.Lock()
	c.seen.Sessions++
	c.heard = time.Now()
	if !c.left.IsZero() {
		c.seen.Outside = max(c.seen.Outside, c.heard.Sub(c.left))
	}
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.tend(ctx, conn)
	for {
		f, err := readFrame(ctx, conn)
		if err != nil {
			return true, wait, c.ended(ctx, err)
		}
		if f.Type == "drain" {
			wait = time.Duration(f.After) * time.Millisecond
		}
		c.take(f)
	}
}

// ended notes how a connection ended, and says whether that is for good.
func (c *client) ended(ctx context.Context, err error) (stop bool) {
	if ctx.Err() != nil {
		return true
	}
	code := int(websocket.CloseStatus(err))
	c.note(func(t *tally) {
		c.left = time.Now()
		if t.Closes == nil {
			t.Closes = map[int]int{}
		}
		t.Closes[code]++
	})
	switch {
	case code >= 4000 && code < 4100, code == 1002, code == 1003, code >= 1007 && code <= 1009:
		return true
	}
	return false
}

// tend asks for the place in the stream now and then, and gives up a
// connection that is silent.
func (c *client) tend(ctx context.Context, conn *websocket.Conn) {
	for servers.Pause(ctx, pingEvery/2+rand.N(pingEvery)) == nil {
		c.mu.Lock()
		silent := time.Since(c.heard) > silentAfter
		if silent {
			c.seen.Silent++
		}
		c.mu.Unlock()
		if silent {
			_ = conn.CloseNow()
			return
		}
		if conn.Write(ctx, websocket.MessageText, []byte(`{"type":"ping"}`)) != nil {
			return // it has ended, and who reads may not have come to the close frame yet
		}
	}
}

func (c *client) note(change func(*tally)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.seen)
}

// take is the client library's whole wisdom: the place moves forward only, and
// an event at or before it was there already.
func (c *client) take(f *frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = time.Now()
	if c.begin.Stream == "" {
		c.begin, c.at = f.at, f.at
	}
	if f.at.Stream != "" && f.at.Stream != c.at.Stream {
		c.seen.OtherStream++
		return
	}
	switch f.Type {
	case "event":
		if f.at.Seq <= c.at.Seq {
			c.log.again = append(c.log.again, f.at.Seq)
			return
		}
		c.log.got = append(c.log.got, event{f.at.Seq, f.Data.N})
	case "resumed":
		c.seen.Resumed++
		c.seen.Replayed += f.Replayed
		if !f.Complete {
			c.seen.Incomplete++
			progress("%s was told complete:false at %d, with %d replayed up to %d", c.user, c.at.Seq, f.Replayed, f.at.Seq)
		}
	case "dropped":
		c.seen.Dropped += f.Count
	case "error":
		c.seen.Errors++
	}
	c.at.Seq = max(c.at.Seq, f.at.Seq)
}

// place is where it began, and where it is.
func (c *client) place() (begin, at api.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begin, c.at
}
