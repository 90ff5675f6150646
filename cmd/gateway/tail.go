package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"
)

type tailCommand struct {
	configFlags
	URL     string   `name:"url" placeholder:"URL" help:"Where to connect, like ws://127.0.0.1:8080/v1/ws; from listen unless set."`
	Token   string   `placeholder:"JWT" help:"The token ($GATEWAY_TOKEN)."`
	Sub     string   `placeholder:"USER" help:"Make a token for this user instead, with auth.hs256_secret."`
	As      string   `name:"issuer" placeholder:"NAME" help:"Which of auth.issuers makes that token."`
	Subject []string `sep:"none" placeholder:"SUBJECT" help:"Ask for this subject as well; the token must grant it. Repeatable."`
	Count   int      `placeholder:"N" help:"End after N events."`
	Once    bool     `help:"Do not reconnect."`
}

func (*tailCommand) Help() string {
	return `Prints each frame as one line; what happens to the connection is told on standard error.

    gateway tail --token "$TOKEN"
    GATEWAY_AUTH_HS256_SECRET=… gateway tail --sub alice --count 1`
}

func (c *tailCommand) Run(s *invocation) error {
	cfg, _, err := c.load(s, false)
	if err != nil {
		return err
	}
	t := &tail{once: c.Once, count: c.Count, out: s.stdout, notes: s.stderr}
	if t.url, err = tailURL(c.URL, cfg); err != nil {
		return err
	}
	t.url = withSubjects(t.url, c.Subject)
	if t.token, t.fresh, err = c.tokenSource(s, cfg); err != nil {
		return err
	}
	if c.Count < 0 {
		return configErrorf("--count %d must not be negative", c.Count)
	}
	return t.run(s.ctx)
}

// withSubjects names subjects in a URL.
func withSubjects(to string, subjects []string) string {
	by := "?"
	if strings.Contains(to, "?") {
		by = "&"
	}
	for _, s := range subjects {
		to += by + "subject=" + url.QueryEscape(s)
		by = "&"
	}
	return to
}

// tokenSource is where tokens come from; fresh says that each one is new.
func (c *tailCommand) tokenSource(s *invocation, cfg *Config) (token func() (string, error), fresh bool, err error) {
	if c.Token != "" && c.Sub != "" {
		return nil, false, configErrorf("--token and --sub are both given: keep one")
	}
	fixed := c.Token
	if fixed == "" && c.Sub == "" {
		for _, variable := range s.env {
			if value, ok := strings.CutPrefix(variable, envToken+"="); ok {
				fixed = value
			}
		}
	}
	if fixed = strings.TrimSpace(fixed); fixed != "" {
		return func() (string, error) { return fixed, nil }, false, nil
	}
	if c.Sub == "" {
		return nil, false, configErrorf("there is no token: give --token or GATEWAY_TOKEN, or --sub with the gateway's secret in GATEWAY_AUTH_HS256_SECRET")
	}
	issuer, err := cfg.issuer(c.As)
	if err != nil {
		return nil, false, err
	}
	token = func() (string, error) {
		return mintToken(issuer, tokenClaims(issuer, c.Sub, time.Now(), min(time.Hour, cfg.Auth.MaxLifetime)))
	}
	_, err = token()
	return token, true, err
}

// tailURL is the flag's, else that of a gateway with this configuration.
func tailURL(given string, cfg *Config) (string, error) {
	if given != "" {
		u, err := url.Parse(given)
		if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" {
			return "", configErrorf("--url is not a WebSocket URL like ws://127.0.0.1:8080/v1/ws")
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/ws"
		}
		return u.String(), nil
	}
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return "", configErrorf("listen %q is not an address", cfg.Listen)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return cfg.scheme("ws") + "://" + net.JoinHostPort(host, port) + "/v1/ws", nil
}

const (
	firstWait = 500 * time.Millisecond
	longWait  = 10 * time.Second
)

// tail is a client that reconnects as the contract asks of one.
type tail struct {
	url        string
	token      func() (string, error)
	fresh      bool // token gives a new one each time
	once       bool
	count      int // events still to come; 0 is no end
	out, notes io.Writer
}

var errCounted = errors.New("all events have come")

// run ends with ctx, after count events, or when reconnecting would not help.
func (t *tail) run(ctx context.Context) error {
	failures := 0
	for {
		end := t.session(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(end.err, errCounted):
			return nil
		case end.final:
			return end.err
		case t.once && end.orderly:
			t.note(end.err.Error())
			return nil
		case t.once:
			return end.err
		}
		if end.welcomed {
			failures = 0
		}
		wait := end.wait
		if wait == 0 {
			wait = min(firstWait<<min(failures, 10), longWait)
			wait = wait/2 + rand.N(wait/2)
		}
		failures++
		t.note(fmt.Sprintf("%v; connecting again in %s", end.err, wait.Round(time.Millisecond)))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// note tells people what happens to the connection.
func (t *tail) note(what string) { _, _ = fmt.Fprintln(t.notes, what) }
