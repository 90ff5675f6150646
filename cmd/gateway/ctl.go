package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"pushgate/internal/bus"
)

// asking is what commands share that ask all gateways.
type asking struct {
	configFlags
	Wait     time.Duration `default:"1s" placeholder:"TIME" help:"How long to wait for answers [1s]."`
	Gateways int           `placeholder:"N" help:"End as soon as N gateways have answered."`
}

// ask sends a request to all gateways, and gives each answer to show.
func (c *asking) ask(s *invocation, verb string, request map[string]any, show func(data []byte) error) error {
	cfg, _, err := c.load(s, false)
	switch {
	case err != nil:
		return err
	case c.Wait <= 0:
		return configErrorf("--wait %s must be longer than nothing", c.Wait)
	case c.Gateways < 0:
		return configErrorf("--gateways %d must not be negative", c.Gateways)
	}
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	refused := ""
	q := bus.Question{Subject: "pushgate.control." + verb, Data: data, Wait: c.Wait, Answers: c.Gateways}
	err = bus.Ask(s.ctx, cfg.busOptions(), q, func(a bus.Answer) error {
		if a.Error != "" {
			refused = a.Error
			return nil
		}
		return show(a.Data)
	})
	if err == nil && refused != "" {
		err = errors.New(refused)
	}
	return err
}

// lines prints each answer as one line of JSON: for people to read, and for
// programs such as jq.
func (c *asking) lines(s *invocation, verb string, request map[string]any) error {
	return c.ask(s, verb, request, func(data []byte) error {
		_, err := fmt.Fprintln(s.stdout, strings.TrimSpace(string(data)))
		return err
	})
}

// ctlCommand is the control service, from the command line.
type ctlCommand struct {
	Sessions   ctlSessions   `cmd:"" help:"List a user's sessions, or count all."`
	Disconnect ctlDisconnect `cmd:"" help:"End a user's sessions, or one session."`
	Revoke     ctlRevoke     `cmd:"" help:"Refuse a user's tokens that were issued before a time."`
	Rebalance  ctlRebalance  `cmd:"" help:"Move a share of the sessions to other gateways."`
	Stats      ctlStats      `cmd:"" help:"Show each gateway's main figures."`
	Loglevel   ctlLoglevel   `cmd:"" help:"Show the log's level, or set it."`
}

func (*ctlCommand) Help() string {
	return `Asks all gateways over NATS (--nats.url) and prints each one's answer as a line of JSON. What it does is the
service pushgate.control.…; docs/operations.md tells more.

    gateway ctl sessions                               how many are where
    gateway ctl sessions --user alice                  what she has, on each gateway
    gateway ctl disconnect --user alice                her sessions end with 4000
    gateway ctl revoke --user alice                    and her tokens so far are good no more
    gateway ctl rebalance --share 0.2                  after a scale-out
    gateway ctl loglevel --level debug --for 10m       and back by itself
    gateway ctl stats --gateways 3 | jq .sessions      ends when three have answered`
}

func (c *ctlCommand) flags() []*configFlags {
	return []*configFlags{
		&c.Sessions.configFlags, &c.Disconnect.configFlags, &c.Revoke.configFlags,
		&c.Rebalance.configFlags, &c.Stats.configFlags, &c.Loglevel.configFlags,
	}
}

type ctlSessions struct {
	asking
	User string `placeholder:"USER" help:"Whose sessions; without it they are counted."`
}

func (*ctlSessions) Help() string {
	return `    gateway ctl sessions
    gateway ctl sessions --user alice`
}

func (c *ctlSessions) Run(s *invocation) error {
	request := map[string]any{}
	if c.User != "" {
		request["user"] = c.User
	}
	return c.lines(s, "sessions", request)
}

type ctlDisconnect struct {
	asking
	User    string `placeholder:"USER" help:"Whose sessions."`
	Session string `placeholder:"ID" help:"Or one: the 22 characters of its welcome."`
}

func (*ctlDisconnect) Help() string {
	return `They end with 4000: clients stop, and do not come back by themselves. Their tokens stay good; see revoke.

    gateway ctl disconnect --user alice`
}

func (c *ctlDisconnect) Run(s *invocation) error {
	switch {
	case (c.User == "") == (c.Session == ""):
		return configErrorf("give --user or --session")
	case c.User != "":
		return c.lines(s, "disconnect", map[string]any{"user": c.User})
	}
	return c.lines(s, "disconnect", map[string]any{"session": c.Session})
}

type ctlRevoke struct {
	asking
	User   string    `required:"" placeholder:"USER" help:"Whose tokens."`
	Before time.Time `placeholder:"TIME" help:"Those issued before it, as 2026-01-02T15:04:05Z; without it all so far."`
}

func (*ctlRevoke) Help() string {
	return `Sessions that came with such a token end with 4000. It holds on every gateway and across restarts.

    gateway ctl revoke --user alice
    gateway ctl revoke --user alice --before 2026-01-02T15:04:05Z`
}

func (c *ctlRevoke) Run(s *invocation) error {
	request := map[string]any{"user": c.User}
	if !c.Before.IsZero() {
		request["issued_before"] = c.Before.Unix()
	}
	return c.lines(s, "revoke", request)
}

type ctlRebalance struct {
	asking
	Share float64 `required:"" placeholder:"SHARE" help:"Of each gateway's sessions: 0.2 is a fifth."`
}

func (*ctlRebalance) Help() string {
	return `Sessions are moved as by a drain: over drain.window, each told when to come back.

    gateway ctl rebalance --share 0.2`
}

func (c *ctlRebalance) Run(s *invocation) error {
	return c.lines(s, "rebalance", map[string]any{"share": c.Share})
}

type ctlStats struct{ asking }

func (c *ctlStats) Run(s *invocation) error { return c.lines(s, "stats", map[string]any{}) }

type ctlLoglevel struct {
	asking
	Level string `placeholder:"LEVEL" help:"debug, info, warn or error; without it the level is shown."`
	For   string `placeholder:"TIME" help:"Go back after this time, like 10m."`
}

func (*ctlLoglevel) Help() string {
	return `    gateway ctl loglevel
    gateway ctl loglevel --level debug --for 10m`
}

func (c *ctlLoglevel) Run(s *invocation) error {
	request := map[string]any{}
	if c.Level != "" {
		request["level"] = c.Level
	}
	if c.For != "" {
		request["for"] = c.For
	}
	return c.lines(s, "loglevel", request)
}
