package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go/jetstream"

	"pushgate/test/servers"
)

type historyCommand struct {
	Events int           `default:"500" help:"Events of 1 KiB that a client misses; half of them are its own."`
	Limit  time.Duration `default:"10m" help:"The run ends by then, whatever comes."`
	Logs   string        `help:"Folder for the servers' logs." placeholder:"DIR"`
}

// historyCase is one way to lose history.
type historyCase struct {
	name string
	lose func(context.Context, *stage, *visit) error
	stay bool // the client stays connected meanwhile
	keep bool // nothing of what it misses is lost: all may come, and then nothing need be said
}

var historyCases = []historyCase{
	{name: "nothing is lost", keep: true, lose: missed},
	{name: "trimmed by max_msgs", lose: then(missed, limit(func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }))},
	{name: "trimmed by max_bytes", lose: then(missed, limit(func(c *jetstream.StreamConfig) { c.MaxBytes = 16 << 10 }))},
	{name: "trimmed by max_age", lose: then(missed, limit(func(c *jetstream.StreamConfig) {
		c.MaxAge, c.Duplicates = 500*time.Millisecond, 500*time.Millisecond
	}), emptied)},
	{name: "purged", lose: then(missed, purged)},
	{name: "purged, then more events", lose: then(missed, purged, missed)},
	{name: "purged up to the middle", lose: then(missed, purgedHalf)},
	{name: "purged, nothing missed", keep: true, lose: purged},
	{name: "made anew, empty", lose: then(missed, anew)},
	{name: "made anew, past the cursor", lose: then(missed, anew, missed, missed)},
	{name: "made anew, then events", lose: then(anew, missed)},
	{name: "purged under a live session", keep: true, stay: true, lose: then(purged, missed)},
	{name: "made anew under a live session", stay: true, lose: then(missed, anew, missed)},
}

// outcome is what a client was told in one case.
type outcome struct {
	Case     string `json:"case"`
	Restart  bool   `json:"gateway_restarted"`
	Missed   int    `json:"missed"`
	Replayed int    `json:"came"`
	Lost     int    `json:"lost"`
	Told     string `json:"told"`
	OK       bool   `json:"ok"`
}

// Run is the command.
func (c *historyCommand) Run(ctx context.Context) error { return c.run(ctx, os.Stdout) }

func (c *historyCommand) run(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	s.logs = c.Logs
	defer s.close()
	if err := s.startNATS(ctx, 1); err != nil {
		return err
	}
	if err := s.addGateway(ctx, "GATEWAY_DURABLE_RING_BYTES=64KiB"); err != nil {
		return err
	}
	var all []outcome
	silent := 0
	for _, one := range historyCases {
		for _, restart := range []bool{false, true} {
			if restart && one.stay {
				continue
			}
			o, err := c.one(ctx, s, one, restart, len(all))
			if err != nil {
				return fmt.Errorf("%s, restarted %v: %w", one.name, restart, err)
			}
			progress("%+v", o)
			all = append(all, o)
			if !o.OK {
				silent++
			}
		}
	}
	rows := [][]string{{"history", "gateway restarted", "missed", "came", "lost", "told", ""}}
	for _, o := range all {
		verdict := "ok"
		if !o.OK {
			verdict = "SILENT"
		}
		rows = append(rows, []string{o.Case, fmt.Sprint(o.Restart), fmt.Sprint(o.Missed), fmt.Sprint(o.Replayed), fmt.Sprint(o.Lost), o.Told, verdict})
	}
	result := struct {
		Cases  []outcome `json:"cases"`
		Silent int       `json:"silent"`
	}{all, silent}
	if err := report(w, fmt.Sprintf("history taken away: %d cases, %d in silence", len(all), silent), result, rows); err != nil {
		return err
	}
	if silent > 0 {
		return errShort
	}
	return nil
}

// visit is one client of one case.
type visit struct {
	user, token string
	events      int
	first       uint64          // number of its first event
	published   []uint64        // numbers of its events that it was not there for
	seen        map[uint64]bool // numbers
	cursor      string
}

// one plays a case: the client comes, goes, history is lost, it comes back.
func (c *historyCommand) one(ctx context.Context, s *stage, one historyCase, restart bool, number int) (outcome, error) {
	o := outcome{Case: one.name, Restart: restart}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &visit{user: userName(number), events: c.Events, first: uint64(number+1) * 1_000_000, seen: map[uint64]bool{}}
	var err error
	if v.token, err = servers.Token(v.user); err != nil {
		return o, err
	}
	conn, err := v.arrive(ctx, s)
	if err != nil {
		return o, fmt.Errorf("arriving: %w", err)
	}
	defer func() { _ = conn.CloseNow() }()
	frames := framesOf(ctx, conn)
	if !one.stay {
		_ = conn.CloseNow()
	}
	if err := one.lose(ctx, s, v); err != nil {
		return o, err
	}
	if restart {
		if err := errors.Join(s.gateways[0].End(syscall.SIGTERM), s.gateways[0].Start(ctx)); err != nil {
			return o, err
		}
	}
	if !one.stay {
		if conn, err = v.enter(ctx, s); err != nil {
			return o, fmt.Errorf("coming back: %w", err)
		}
		defer func() { _ = conn.CloseNow() }()
		frames = framesOf(ctx, conn)
	}
	o.Told = v.listen(ctx, frames, one)
	o.Missed = len(v.published)
	for _, n := range v.published {
		if v.seen[n] {
			o.Replayed++
		}
	}
	o.Lost = o.Missed - o.Replayed
	o.OK = o.Told == saidIncomplete || one.keep && o.Lost == 0
	return o, limit(func(c *jetstream.StreamConfig) {
		c.MaxMsgs, c.MaxBytes, c.MaxAge, c.Duplicates = -1, -1, 24*time.Hour, 2*time.Minute
	})(ctx, s, v)
}

// arrive connects for the first time, gets three events and keeps the cursor
// of the last.
func (v *visit) arrive(ctx context.Context, s *stage) (*websocket.Conn, error) {
	conn, err := v.enter(ctx, s)
	if err != nil {
		return nil, err
	}
	for i := 0; i < 3; {
		f, err := readFrame(ctx, conn)
		if err != nil {
			return nil, errors.Join(err, conn.CloseNow())
		}
		switch f.Type {
		case "welcome":
			for n := range uint64(3) {
				if err := s.store(ctx, "push.user."+v.user, v.first+n, 10); err != nil {
					return nil, errors.Join(err, conn.CloseNow())
				}
			}
		case "event":
			i++
		}
		v.cursor = f.Cursor
	}
	v.first += 3
	return conn, nil
}

// enter connects at its place, and tries again as any client does.
func (v *visit) enter(ctx context.Context, s *stage) (conn *websocket.Conn, err error) {
	late := servers.Eventually(ctx, servers.StartWithin, "the gateway lets the client in", func(ctx context.Context) bool {
		conn, err = dial(ctx, s.addrs[0], v.token, v.cursor)
		return err == nil
	})
	if late != nil {
		return nil, errors.Join(late, err)
	}
	return conn, nil
}

const (
	saidComplete   = "complete:true"
	saidIncomplete = "complete:false"
	saidNothing    = "nothing"

	// tellWithin is how long the gateway may take to say it.
	tellWithin = time.Minute
)

// arrival is a frame, or the end of its connection.
type arrival struct {
	*frame
	err error
}

// framesOf reads all that comes, so that nobody is a slow consumer.
func framesOf(ctx context.Context, conn *websocket.Conn) <-chan arrival {
	all := make(chan arrival, 1<<14)
	go func() {
		defer close(all)
		for {
			f, err := readFrame(ctx, conn)
			select {
			case all <- arrival{f, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return all
}

// listen takes what comes, until it is said that not all is there, or all is
// there. That all is there up to a place may be said before the gateway has
// come to the rest, or has seen that the stream is another one: then events
// follow, or the other word.
func (v *visit) listen(ctx context.Context, frames <-chan arrival, one historyCase) string {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	said := saidNothing
	for {
		var f arrival
		select {
		case f = <-frames:
		case <-ctx.Done():
			return said
		}
		switch {
		case f.err != nil:
			return f.err.Error()
		case f.frame == nil:
			return said
		case f.Type == "event":
			v.seen[f.Data.N] = true
		case f.Type == "resumed" && !f.Complete:
			return saidIncomplete
		case f.Type == "resumed":
			said = saidComplete
		}
		if (said == saidComplete || one.stay && one.keep) && v.all() {
			return said
		}
	}
}

func (v *visit) all() bool {
	for _, n := range v.published {
		if !v.seen[n] {
			return false
		}
	}
	return true
}
