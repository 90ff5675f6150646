package servers

import (
	"context"
	"fmt"
	"path/filepath"
)

// Gateway is one in a process of its own.
type Gateway struct {
	Process
	Addr  string // for clients
	Admin string // admin.listen
	Debug string // admin.debug_listen
}

// NewGateway names a gateway that is not started yet, on ports that stay its
// own. settings are environment variables, and win over its own; its log is in
// dir.
func (b *Binaries) NewGateway(dir, name, natsURL string, settings ...string) (*Gateway, error) {
	var addrs [3]string
	for i := range addrs {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	g := &Gateway{Addr: addrs[0], Admin: addrs[1], Debug: addrs[2]}
	g.Process = Process{
		Name: "gateway " + name, Path: b.Gateway, Args: []string{"serve"}, Log: filepath.Join(dir, name+".log"),
		Env: append([]string{
			"GATEWAY_LISTEN=" + g.Addr, "GATEWAY_ADMIN_LISTEN=" + g.Admin, "GATEWAY_ADMIN_DEBUG_LISTEN=" + g.Debug,
			"GATEWAY_NATS_URL=" + natsURL, "GATEWAY_AUTH_HS256_SECRET=" + Secret,
			"GATEWAY_DRAIN_DELAY=0s", "GATEWAY_DRAIN_WINDOW=1s",
		}, settings...),
		Ready: func(ctx context.Context) bool { return Answers(ctx, "http://"+g.Admin+"/readyz") },
	}
	return g, nil
}

// NATS is a nats-server in a process of its own.
type NATS struct {
	Process
	Addr string
}

// URL is where its clients connect.
func (n *NATS) URL() string { return "nats://" + n.Addr }

// NewNATS names a server with JetStream that is not started yet, on a port that
// stays its own; its log and its data are in dir. args are more of its command
// line.
func (b *Binaries) NewNATS(dir, name string, args ...string) (*NATS, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	n := &NATS{Addr: fmt.Sprintf("127.0.0.1:%d", port)}
	n.Process = Process{
		Name: "nats-server " + name, Path: b.NATSServer, Log: filepath.Join(dir, name+".log"),
		Args:  append([]string{"-n", name, "-a", "127.0.0.1", "-p", fmt.Sprint(port), "-js", "-sd", filepath.Join(dir, name)}, args...),
		Ready: func(ctx context.Context) bool { return Listens(ctx, n.Addr) },
	}
	return n, nil
}

// NewCluster names servers that make a cluster.
func (b *Binaries) NewCluster(dir string, nodes int, args ...string) ([]*NATS, error) {
	var all []*NATS
	routes, list := make([]string, nodes), ""
	for i := range routes {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		routes[i] = fmt.Sprintf("nats://127.0.0.1:%d", port)
		if i > 0 {
			list += ","
		}
		list += routes[i]
	}
	for i, route := range routes {
		n, err := b.NewNATS(dir, fmt.Sprintf("n%d", i+1), append([]string{"--cluster_name", "test", "--cluster", route, "--routes", list}, args...)...)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}
