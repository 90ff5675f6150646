package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"pushgate/test/servers"
)

type nodesCommand struct {
	Kills   int           `default:"50" help:"Nodes killed with SIGKILL, one at a time; every other one is the stream's leader."`
	Rate    int           `default:"500" help:"Events a second; one in a hundred is a broadcast."`
	Clients int           `default:"50" help:"Clients that stay connected."`
	Away    time.Duration `default:"1s" help:"How long a node stays away at most."`
	Every   time.Duration `default:"500ms" help:"How long all is well before the next one."`
	Limit   time.Duration `default:"20m" help:"The run ends by then, whatever comes."`
	Logs    string        `help:"Folder for the servers' logs." placeholder:"DIR"`
}

// nodes is how many make the cluster; each has a copy of the stream.
const nodes = 3

// Run is the command.
func (c *nodesCommand) Run(ctx context.Context) error { return c.run(ctx, os.Stdout) }

func (c *nodesCommand) run(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	s.logs = c.Logs
	defer s.close()
	if err := s.startNATS(ctx, nodes); err != nil {
		return err
	}
	if err := s.addGateway(ctx, "GATEWAY_DURABLE_RING_BYTES=4MiB"); err != nil {
		return err
	}
	if err := s.healthy(ctx); err != nil {
		return err
	}
	leaders := 0
	res, err := s.watch(ctx, c.Clients, c.Rate, func(res *runResult) (err error) {
		leaders, err = c.kill(ctx, s, res)
		return err
	})
	if err != nil {
		return err
	}
	title := fmt.Sprintf("%d clients, %d events a second, three NATS nodes: %d killed, %d of them leader of the stream",
		c.Clients, c.Rate, res.Kills, leaders)
	rows := append(res.rows(), []string{"connections ended by the gateway", fmt.Sprint(res.ended())})
	if err := report(w, title, res, rows); err != nil {
		return err
	}
	if !res.clean() || res.Unstored+res.Unfinish+res.Incomplete+res.OtherStream+res.Errors+res.ended() > 0 {
		return errShort
	}
	return nil
}

// ended is how many connections ended before their clients left.
func (r *runResult) ended() (n int) {
	for _, times := range r.Closes {
		n += times
	}
	return n
}

// kill kills a node again and again, starts it, and waits until it has caught
// up: two away at a time is a cluster that stores nothing.
func (c *nodesCommand) kill(ctx context.Context, s *stage, res *runResult) (leaders int, err error) {
	for i := range c.Kills {
		if err := servers.Pause(ctx, c.Every); err != nil {
			return leaders, err
		}
		leader, err := s.leader(ctx)
		if err != nil {
			return leaders, err
		}
		victim := leader
		if i%2 == 1 {
			victim = (leader + 1 + rand.IntN(nodes-1)) % nodes
		} else {
			leaders++
		}
		res.Kills++
		if err := s.nodes[victim].End(os.Kill); err != nil {
			return leaders, err
		}
		if err := servers.Pause(ctx, rand.N(c.Away)); err != nil {
			return leaders, err
		}
		if err := s.nodes[victim].Start(ctx); err != nil {
			return leaders, err
		}
		if err := s.healthy(ctx); err != nil {
			return leaders, err
		}
		if (i+1)%10 == 0 || i+1 == c.Kills {
			progress("%d of %d nodes killed and started", i+1, c.Kills)
		}
	}
	return leaders, servers.Pause(ctx, c.Every)
}

// leader is the number of the node that leads the stream.
func (s *stage) leader(ctx context.Context) (int, error) {
	found := -1
	err := servers.Eventually(ctx, servers.StartWithin, "the stream has a leader", func(ctx context.Context) bool {
		info, err := s.info(ctx)
		if err != nil || info.Cluster == nil {
			return false
		}
		_, err = fmt.Sscanf(info.Cluster.Leader, "n%d", &found)
		return err == nil
	})
	return found - 1, err
}

// healthWithin is how long a node may take to catch up.
const healthWithin = 2 * time.Minute

// healthy waits until every node has its copy, and up to date.
func (s *stage) healthy(ctx context.Context) error {
	return servers.Eventually(ctx, healthWithin, "every node has the stream", func(ctx context.Context) bool {
		info, err := s.info(ctx)
		return err == nil && whole(info)
	})
}

func whole(info *jetstream.StreamInfo) bool {
	if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != nodes-1 {
		return false
	}
	for _, r := range info.Cluster.Replicas {
		if !r.Current || r.Offline {
			return false
		}
	}
	return true
}
