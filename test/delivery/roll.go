package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"pushgate/test/servers"
)

type rollCommand struct {
	Rolls   int           `default:"10" help:"Rollouts: each ends both gateways, one after the other, and starts them again."`
	Rate    int           `default:"1000" help:"Events a second; one in a hundred is a broadcast."`
	Clients int           `default:"300" help:"Clients, each of its own user."`
	Delay   time.Duration `default:"1s" help:"drain.delay; the proxy must see meanwhile that a gateway is not ready."`
	Window  time.Duration `default:"2s" help:"drain.window"`
	Limit   time.Duration `default:"20m" help:"The run ends by then, whatever comes."`
	Logs    string        `help:"Folder for the servers' logs." placeholder:"DIR"`
}

// Run is the command.
func (c *rollCommand) Run(ctx context.Context) error { return c.run(ctx, os.Stdout) }

func (c *rollCommand) run(ctx context.Context, w io.Writer) error {
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
	for range 2 {
		if err := s.addGateway(ctx, "GATEWAY_DRAIN_DELAY="+c.Delay.String(), "GATEWAY_DRAIN_WINDOW="+c.Window.String()); err != nil {
			return err
		}
	}
	p, err := newProxy(ctx, s.gateways)
	if err != nil {
		return err
	}
	defer p.close()
	s.addrs = []string{p.addr()}
	res, err := s.watch(ctx, c.Clients, c.Rate, func(res *runResult) error { return c.roll(ctx, s, res) })
	if err != nil {
		return err
	}
	title := fmt.Sprintf("%d clients, %d events a second, two gateways behind a proxy: rolled %d times", c.Clients, c.Rate, c.Rolls)
	rows := append(res.rows(), []string{"dials that failed in a row, at most", fmt.Sprint(res.Row)},
		[]string{"without a session, at most", fmt.Sprintf("%.1f s", res.Outside.Seconds())})
	if err := report(w, title, res, rows); err != nil {
		return err
	}
	if !res.clean() || res.Unfinish+res.Unclean+res.Incomplete+res.OtherStream+res.Errors+res.Closes[-1] > 0 || res.Outside > curedWithin {
		return errShort
	}
	return nil
}

// curedWithin is how long a client that tries again may be without a session.
const curedWithin = time.Minute

// roll ends one gateway after the other as a rollout does, again and again.
func (c *rollCommand) roll(ctx context.Context, s *stage, res *runResult) error {
	for i := range c.Rolls {
		for _, g := range s.gateways {
			res.Terms++
			if err := g.End(syscall.SIGTERM); err != nil {
				progress("%v", err)
				res.Unclean++
			}
			if err := g.Start(ctx); err != nil {
				return err
			}
			if err := servers.Pause(ctx, 2*lookEvery); err != nil { // until the proxy knows
				return err
			}
		}
		progress("%d of %d rollouts are done", i+1, c.Rolls)
	}
	return nil
}
