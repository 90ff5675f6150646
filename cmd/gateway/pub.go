package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"pushgate/internal/bus"
)

// maxStdin is more than any NATS server takes in one message.
const maxStdin = 64 << 20

type pubCommand struct {
	configFlags
	Subject string   `arg:"" help:"Where to: a root and the subject that clients see, like push.user.alice."`
	Data    string   `arg:"" help:"The event; - reads it from standard input."`
	Header  []string `short:"H" sep:"none" placeholder:"K:V" help:"A header, like Nats-Msg-Id:m-1. Repeatable."`
}

func (*pubCommand) Help() string {
	return `Publishes to nats.url and waits until the server has the message.

    gateway pub push.user.alice '{"hello":"world"}'
    gateway pub flash.broadcast 'plain text' -H Nats-Msg-Id:m-1
    date | gateway pub push.broadcast -
    gateway pub push.user.alice -- -5`
}

func (c *pubCommand) Run(s *invocation) error {
	cfg, _, err := c.load(s, false)
	if err != nil {
		return err
	}
	header, err := parseHeaders(c.Header)
	if err != nil {
		return err
	}
	data := []byte(c.Data)
	if c.Data == "-" {
		if data, err = readAll(s.ctx, s.stdin); err != nil {
			return err
		}
	}
	err = bus.Publish(s.ctx, cfg.busOptions(), c.Subject, data, header)
	switch {
	case errors.Is(err, bus.ErrSubject):
		return configErrorf("%v", err)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "published %d bytes to %s\n", len(data), c.Subject)
	if !within(cfg.NATS.Prefix, c.Subject) && !within(cfg.NATS.FlashPrefix, c.Subject) ||
		c.Subject == cfg.NATS.Prefix || c.Subject == cfg.NATS.FlashPrefix {
		_, _ = fmt.Fprintf(s.stderr, "warning: clients do not see %s: publish to %s.%s to reach those subscribed to %s\n",
			c.Subject, cfg.NATS.Prefix, c.Subject, c.Subject)
	}
	return err
}

func parseHeaders(lines []string) (map[string]string, error) {
	header := make(map[string]string, len(lines))
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		if _, twice := header[name]; twice {
			return nil, configErrorf("--header %q is given twice", name)
		}
		if !ok || name == "" {
			return nil, configErrorf("--header %q is not a name and a value like Nats-Msg-Id:m-1", line)
		}
		header[name] = strings.TrimSpace(value)
	}
	return header, nil
}

// readAll reads to the end, or until ctx ends: a terminal never ends by itself.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(r, maxStdin+1))
		done <- result{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("reading standard input was interrupted: %w", ctx.Err())
	case got := <-done:
		if got.err == nil && len(got.data) > maxStdin {
			return nil, fmt.Errorf("standard input has more than %s", Size(maxStdin))
		}
		return got.data, got.err
	}
}
