package main

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"pushgate/test/servers"
)

// lookEvery is how often the proxy asks who is ready: in Kubernetes a probe's
// period, at its shortest, and the way of the news to every node.
const lookEvery = 250 * time.Millisecond

// proxy hands connections on to gateways that are ready, one after the other,
// as a service does. It knows nothing of HTTP.
type proxy struct {
	listener net.Listener
	gateways []*servers.Gateway
	ready    []atomic.Bool
	next     atomic.Uint32
	stop     context.CancelFunc
	all      sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil: closed
}

// newProxy starts one; its caller closes it.
func newProxy(ctx context.Context, gateways []*servers.Gateway) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, gateways: gateways, ready: make([]atomic.Bool, len(gateways)), conns: map[net.Conn]bool{}}
	ctx, p.stop = context.WithCancel(ctx)
	for i, g := range gateways {
		p.ready[i].Store(true)
		p.all.Go(func() {
			for servers.Pause(ctx, lookEvery) == nil {
				p.ready[i].Store(servers.Answers(ctx, "http://"+g.Admin+"/readyz"))
			}
		})
	}
	p.all.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	p.stop()
	_ = p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.all.Wait()
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.join(in) })
	}
}

// pick is the next gateway that was ready when it was last looked at; nil is
// none.
func (p *proxy) pick() *servers.Gateway {
	for range p.gateways {
		i := int(p.next.Add(1)) % len(p.gateways)
		if p.ready[i].Load() {
			return p.gateways[i]
		}
	}
	return nil
}

// join hands on both ways until both have ended.
func (p *proxy) join(in net.Conn) {
	defer p.drop(in)
	g := p.pick()
	if !p.keep(in) || g == nil {
		return
	}
	out, err := net.DialTimeout("tcp", g.Addr, time.Second)
	if err != nil {
		return
	}
	defer p.drop(out)
	if !p.keep(out) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() { hand(in, out) })
	hand(out, in)
	back.Wait()
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// hand copies one way, and passes on that the way has ended.
func hand(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok && err == nil {
		_ = tcp.CloseWrite()
		return
	}
	_ = to.Close() // what broke on one side breaks on the other
}
