//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
)

type resumeCommand struct {
	Rounds   int `default:"3" help:"Measurements of each line; medians are shown."`
	Sessions int `default:"10000" help:"Sessions that come back at once."`
	Missed   int `default:"20" help:"Events that each of them has missed."`
	Users    int `help:"Users that miss events, the sessions among them; more than sessions make a larger stream. 0: as many."`

	Beyond bool `help:"Keep the ring small, so that NATS is asked."`
}

// Run is the command. A gateway with a stored stream is started freshly for each
// reading. Its sessions go, miss events, and come back with the cursor that they
// had; beside it a storm of sessions that bring none.
func (c *resumeCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	readings := map[string]map[string][]float64{}
	add := func(name string, values map[string]float64) {
		if readings[name] == nil {
			readings[name] = map[string][]float64{}
		}
		for column, v := range values {
			readings[name][column] = append(readings[name][column], v)
		}
	}
	for round := range c.Rounds {
		progress("== round %d of %d", round+1, c.Rounds)
		if err := c.one(ctx, b, add); err != nil {
			return err
		}
	}
	title := fmt.Sprintf("%d sessions come back, %d events missed each, of %d in the stream", c.Sessions, c.Missed, c.users()*c.Missed)
	table(title, "storm", []string{"plain", "resume"}, []string{"seconds", "CPU µs", "NATS CPU µs", "requests to NATS", "consumers", "RSS MB"}, readings)
	return json.NewEncoder(os.Stdout).Encode(readings)
}

func (c *resumeCommand) one(ctx context.Context, b *binaries, add func(string, map[string]float64)) error {
	s := newServers()
	defer s.stop()
	ring := (c.users()*c.Missed*2048>>20 + 64) // MiB, ample
	if c.Beyond {
		ring = 1
	}
	if err := s.startDurable(ctx, b, fmt.Sprintf("GATEWAY_DURABLE_RING_BYTES=%dMiB", ring)); err != nil {
		return err
	}
	t := &s.target
	before := t.files()
	cursor, err := c.warmUp(ctx, t)
	if err != nil {
		return err
	}
	t.awaitFiles(before)
	server := *t
	server.PID = s.processes[0].Process.Pid
	plain, err := c.storm(ctx, t, &server, "")
	if err != nil {
		return err
	}
	add("plain", plain)
	t.awaitFiles(before)
	if err := c.publish(ctx, t); err != nil {
		return err
	}
	back, err := c.storm(ctx, t, &server, cursor)
	if err != nil {
		return err
	}
	add("resume", back)
	return nil
}

func (c *resumeCommand) users() int { return max(c.Users, c.Sessions) }

// warmUp has everybody come once, and returns where one of them was.
func (c *resumeCommand) warmUp(ctx context.Context, t *target) (string, error) {
	f, err := t.dial(ctx, 0, c.Sessions)
	if err != nil {
		return "", err
	}
	defer f.close()
	got := regexp.MustCompile(`"cursor":"([^"]+)"`).FindSubmatch(f.welcome)
	if got == nil {
		return "", fmt.Errorf("the welcome has no cursor: %s", f.welcome)
	}
	return string(got[1]), nil
}

// publish stores the events that everybody misses and waits until the gateway
// has them.
func (c *resumeCommand) publish(ctx context.Context, t *target) error {
	events, err := t.counter("pushgate_events_total")
	if err != nil {
		return err
	}
	nc, err := nats.Connect(t.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	total := c.users() * c.Missed
	for i := range total {
		if err := nc.Publish("push.user."+t.userName(i%c.users()), fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
			return err
		}
		if i%2000 == 1999 { // the stream takes them at its own pace
			if err := t.awaitCounter(ctx, "pushgate_events_total", events+float64(i+1)); err != nil {
				return err
			}
		}
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		return err
	}
	return t.awaitCounter(ctx, "pushgate_events_total", events+float64(total))
}

// storm has everybody come at once, until each has what it missed.
func (c *resumeCommand) storm(ctx context.Context, t, server *target, cursor string) (map[string]float64, error) {
	client := *t
	if cursor != "" {
		client.query = "?cursor=" + url.QueryEscape(cursor)
	}
	requests, err := t.requests()
	if err != nil {
		return nil, err
	}
	before, err := t.cpu()
	if err != nil {
		return nil, err
	}
	serverBefore, err := server.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	f, err := client.dial(ctx, 0, c.Sessions)
	if err != nil {
		return nil, err
	}
	defer f.close()
	took := time.Since(began)
	after, err := t.cpu()
	if err != nil {
		return nil, err
	}
	serverAfter, err := server.cpu()
	if err != nil {
		return nil, err
	}
	consumers, err := t.consumers()
	if err != nil {
		return nil, err
	}
	if want := fmt.Sprintf(`"complete":true,"replayed":%d`, c.Missed); cursor != "" && f.resumed(want) != c.Sessions {
		return nil, fmt.Errorf("%d of %d sessions were told %s", f.resumed(want), c.Sessions, want)
	}
	rss, err := t.rss()
	if err != nil {
		return nil, err
	}
	requestsAfter, err := t.requests()
	if err != nil {
		return nil, err
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(c.Sessions) }
	return map[string]float64{
		"seconds": took.Seconds(), "CPU µs": each(after - before), "NATS CPU µs": each(serverAfter - serverBefore), "consumers": float64(consumers),
		"requests to NATS": requestsAfter - requests, "RSS MB": float64(rss) / 1e6,
	}, nil
}

// requests is how often the gateway has asked NATS for stored events.
func (t *target) requests() (float64, error) { return t.counter("pushgate_history_requests_total") }

// consumers is how many the stream has.
func (t *target) consumers() (int, error) {
	nc, err := nats.Connect(t.NATS)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		return 0, err
	}
	info, err := js.StreamInfo("PUSH")
	if err != nil {
		return 0, err
	}
	return info.State.Consumers, nil
}

// awaitCounter waits until a counter of the gateway has come so far.
func (t *target) awaitCounter(ctx context.Context, name string, want float64) error {
	for range 6000 {
		got, err := t.counter(name)
		if err != nil || got >= want {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.New("the gateway does not get all events")
}
