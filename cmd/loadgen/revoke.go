//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

type revokeCommand struct {
	Runs     int `default:"20" help:"Revocations; each ends all sessions, and the next begins with new ones."`
	Sessions int `default:"10000" help:"Sessions of the one user, half of them on each of two gateways."`
}

type revokeResult struct {
	Runs     int     `json:"runs"`
	Sessions int     `json:"sessions"`
	Closed   int     `json:"closed_with_4000"` // over all runs
	Answers  int     `json:"answers_stored"`   // of both gateways, over all runs
	Slowest  float64 `json:"slowest_ms"`
	Median   float64 `json:"median_ms"`
	Fastest  float64 `json:"fastest_ms"`
	Answered float64 `json:"answered_slowest_ms"`
}

// Run is the command.
func (c *revokeCommand) Run(ctx context.Context) error {
	if c.Runs < 1 || c.Sessions < 2 || c.Sessions%2 != 0 || c.Sessions > maxClients {
		return fmt.Errorf("it takes a run at least, and an even number of sessions up to %d", maxClients)
	}
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	res, err := c.measure(ctx, b)
	if err != nil {
		return err
	}
	all := c.Runs * c.Sessions
	return report(fmt.Sprintf("revocation of one user with %d sessions on two gateways, %d times", c.Sessions, c.Runs), res, [][2]string{
		{"to the last session's end", fmt.Sprintf("slowest %.0f ms, median %.0f ms, fastest %.0f ms", res.Slowest, res.Median, res.Fastest)},
		{"closed with 4000", fmt.Sprintf("%d of %d", res.Closed, all)},
		{"answered, and stored", fmt.Sprintf("%d of %d, the slowest after %.0f ms", res.Answers, 2*c.Runs, res.Answered)},
	})
}

// measure revokes again and again. The tokens of each run are issued in the
// second that the run before has revoked up to, so that its revocation misses
// them and the next one hits them; all those seconds have passed already.
func (c *revokeCommand) measure(ctx context.Context, b *binaries) (*revokeResult, error) {
	s := newServers()
	defer s.stop()
	if err := s.startNATS(ctx, b, false, "-jetstream="+filepath.Join(b.dir, "jetstream")); err != nil {
		return nil, err
	}
	var gateways []target
	for range 2 {
		if err := s.addGateway(ctx, b); err != nil {
			return nil, err
		}
		gateways = append(gateways, s.target)
	}
	nc, err := nats.Connect(s.target.NATS, nats.Name("loadgen"))
	if err != nil {
		return nil, err
	}
	defer nc.Close()

	res := &revokeResult{Runs: c.Runs, Sessions: c.Sessions}
	var took []time.Duration
	first := time.Now().Add(-time.Duration(c.Runs) * time.Second)
	for run := range c.Runs {
		one, err := c.one(ctx, nc, gateways, first.Add(time.Duration(run)*time.Second))
		if err != nil {
			return nil, fmt.Errorf("run %d: %w", run+1, err)
		}
		progress("run %d of %d: %.0f ms, %d closed with 4000", run+1, c.Runs, milliseconds(one.took), one.closed)
		took = append(took, one.took)
		res.Closed, res.Answers = res.Closed+one.closed, res.Answers+one.answers
		res.Answered = max(res.Answered, milliseconds(one.answered))
	}
	slices.Sort(took)
	res.Fastest, res.Median, res.Slowest = milliseconds(took[0]), milliseconds(took[len(took)/2]), milliseconds(took[len(took)-1])
	return res, nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// revocation is what one run gave.
type revocation struct {
	took     time.Duration // from the request to the last session's end
	answered time.Duration // to the last gateway's answer
	closed   int
	answers  int
}

// one opens the sessions with a token issued then, and revokes it.
func (c *revokeCommand) one(ctx context.Context, nc *nats.Conn, gateways []target, issued time.Time) (*revocation, error) {
	fleets, done, err := c.open(ctx, gateways, issued)
	defer done()
	if err != nil {
		return nil, err
	}
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Unsubscribe() }()
	request, err := json.Marshal(map[string]any{"user": gateways[0].userName(0), "issued_before": issued.Unix() + 1})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := nc.PublishRequest("pushgate.control.revoke", inbox, request); err != nil {
		return nil, err
	}
	if err := nc.Flush(); err != nil {
		return nil, err
	}
	var r revocation
	for range gateways {
		if err := stored(answers); err != nil {
			return nil, err
		}
		r.answers++
	}
	r.answered = time.Since(began)
	for _, f := range fleets {
		select {
		case <-f.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(30 * time.Second):
			return nil, fmt.Errorf("%d of %d sessions were ended", f.gone.Load(), len(f.conns))
		}
		f.mu.Lock()
		r.took = max(r.took, f.last.Sub(began))
		r.closed += f.closes[4000]
		f.mu.Unlock()
	}
	return &r, nil
}

// stored waits for a gateway's answer, that the revocation is kept. How many
// sessions it says is not looked at: where the other gateway was faster and
// the bucket told this one first, those that are ended already do not count.
func stored(answers *nats.Subscription) error {
	msg, err := answers.NextMsg(10 * time.Second)
	if err != nil {
		return fmt.Errorf("a gateway's answer: %w", err)
	}
	var answer struct{ Stored bool }
	if err := json.Unmarshal(msg.Data, &answer); err != nil || !answer.Stored {
		return errors.New("a gateway answers " + string(msg.Data))
	}
	return nil
}

// open opens the sessions, half on each gateway; done ends what is left of
// them, and waits until the gateways have seen it.
func (c *revokeCommand) open(ctx context.Context, gateways []target, issued time.Time) (fleets []*fleet, done func(), err error) {
	var files []int
	done = func() {
		for i, f := range fleets {
			f.close()
			gateways[i].awaitFiles(files[i])
		}
	}
	for i := range gateways {
		t := &gateways[i]
		token, err := hs256(t.Secret).mint(t.userName(0), issued)
		if err != nil {
			return fleets, done, err
		}
		t.tokens = slices.Repeat([]string{token}, c.Sessions/2)
		files = append(files, t.files())
		f, err := t.dial(ctx, 0, c.Sessions/2)
		if err != nil {
			return fleets, done, err
		}
		fleets = append(fleets, f)
	}
	return fleets, done, nil
}
