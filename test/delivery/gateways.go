package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"pushgate/test/servers"
)

type gatewaysCommand struct {
	Kills   int           `default:"100" help:"Ends of a gateway: half SIGKILL, half SIGTERM with a drain window of 1s."`
	Rate    int           `default:"2000" help:"Events a second; one in a hundred is a broadcast."`
	Clients int           `default:"500" help:"Clients, each of its own user."`
	Every   time.Duration `default:"1s" help:"About how long a gateway is left alone after the other, or it, is back."`
	Ring    string        `default:"4MiB" help:"durable.ring_bytes: who is away for longer than it reaches is served by NATS."`
	Limit   time.Duration `default:"20m" help:"The run ends by then, whatever comes."`
	Logs    string        `help:"Folder for the servers' logs." placeholder:"DIR"`
}

// runResult is what both kinds of killing report.
type runResult struct {
	Kills     int     `json:"kills"`
	Terms     int     `json:"terms"`
	Seconds   float64 `json:"seconds"`
	Clients   int     `json:"clients"`
	Stored    int     `json:"stored"`
	Published int     `json:"acknowledged"`
	Again     int     `json:"published_again"`
	Unstored  int     `json:"acknowledged_not_stored"`
	Unfinish  int     `json:"unfinished_clients"`
	Unclean   int     `json:"unclean_exits"`
	verdict
	tally
}

// Run is the command.
func (c *gatewaysCommand) Run(ctx context.Context) error { return c.run(ctx, os.Stdout) }

func (c *gatewaysCommand) run(ctx context.Context, w io.Writer) error {
	if c.Kills < 0 || c.Rate < 1 || c.Clients < 1 {
		return fmt.Errorf("there must be clients and events")
	}
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
		if err := s.addGateway(ctx, "GATEWAY_DURABLE_RING_BYTES="+c.Ring); err != nil {
			return err
		}
	}
	res, err := s.watch(ctx, c.Clients, c.Rate, func(res *runResult) error { return c.kill(ctx, s, res) })
	if err != nil {
		return err
	}
	title := fmt.Sprintf("%d clients, %d events a second, two gateways: %d killed, %d drained", c.Clients, c.Rate, res.Kills, res.Terms)
	if err := report(w, title, res, res.rows()); err != nil {
		return err
	}
	if !res.clean() || res.Unfinish+res.Unclean+res.Incomplete+res.OtherStream+res.Errors > 0 {
		return errShort
	}
	return nil
}

// kill ends a gateway again and again, and starts it.
func (c *gatewaysCommand) kill(ctx context.Context, s *stage, res *runResult) error {
	for i := range c.Kills {
		if err := servers.Pause(ctx, c.Every/2+rand.N(c.Every)); err != nil {
			return err
		}
		g := s.gateways[rand.IntN(len(s.gateways))]
		sig := os.Kill
		if i%2 == 1 {
			sig = syscall.SIGTERM
			res.Terms++
		} else {
			res.Kills++
		}
		if err := g.End(sig); err != nil {
			progress("%v", err)
			res.Unclean++
		}
		if err := g.Start(ctx); err != nil {
			return err
		}
		if (i+1)%10 == 0 || i+1 == c.Kills {
			progress("%d of %d gateways ended and started", i+1, c.Kills)
		}
	}
	return servers.Pause(ctx, c.Every)
}

// settleWithin is how long clients may take to get everything after the last
// event.
const settleWithin = 2 * time.Minute

// watch has clients connected and events published while something happens,
// and judges them in the end.
func (s *stage) watch(ctx context.Context, clients, rate int, happen func(*runResult) error) (*runResult, error) {
	crowd, err := newCrowd(ctx, clients, s)
	if err != nil {
		return nil, err
	}
	defer crowd.leave()
	progress("%d clients are connected", clients)
	res := &runResult{Clients: clients}
	began := time.Now()
	p := s.publish(ctx, rate, clients)
	err = happen(res)
	p.end()
	if err != nil {
		return nil, err
	}
	res.Seconds = time.Since(began).Seconds()
	info, err := s.awaitInfo(ctx)
	if err != nil {
		return nil, err
	}
	last := info.State.LastSeq
	progress("%d events are stored; waiting for the clients", last)
	if err := servers.Eventually(ctx, settleWithin, "every client has everything", func(context.Context) bool {
		return crowd.behind(last) == 0
	}); err != nil {
		progress("%v", err)
	}
	res.Unfinish = crowd.behind(last)
	crowd.leave()
	t, err := s.read(ctx, last)
	if err != nil {
		return nil, err
	}
	res.Stored, res.Published, res.Again, res.Unstored = len(t.bySeq), p.count(), p.again, p.missing(t)
	res.verdict, res.tally = crowd.judge(t)
	return res, nil
}

func (r *runResult) rows() [][]string {
	return [][]string{
		{"events", fmt.Sprintf("%d stored in %.0f s, %d acknowledged, %d of those not stored", r.Stored, r.Seconds, r.Published, r.Unstored)},
		{"deliveries", fmt.Sprintf("%d expected, %d received", r.Expected, r.Received)},
		{"lost", fmt.Sprint(r.Lost)},
		{"twice, behind the cursor check", fmt.Sprint(r.Doubled)},
		{"out of order", fmt.Sprint(r.Disordered)},
		{"not the client's", fmt.Sprint(r.Foreign)},
		{"resumed with complete:false", fmt.Sprintf("%d of %d, %d events replayed", r.Incomplete, r.Resumed, r.Replayed)},
		{"sent again, dropped by the check", fmt.Sprint(r.Resent)},
		{"clients that never got everything", fmt.Sprint(r.Unfinish)},
		{"gateways that did not end well", fmt.Sprint(r.Unclean)},
		{"sessions", fmt.Sprintf("%d, %d dials refused, %d given up in silence", r.Sessions, r.Refused, r.Silent)},
		{"ends by code, -1 is none", fmt.Sprint(r.Closes)},
	}
}
