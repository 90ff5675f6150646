package bus

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// proxy stands between a bus and its NATS server. It can cut the connection,
// and swallow single messages on their way to the client.
type proxy struct {
	listener net.Listener
	target   string
	all      sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]bool
	isCut   bool
	swallow func(subject string) bool // nil: nothing
}

func startProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	swallowing(tb)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]bool)}
	p.all.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.all.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

// cut closes all connections and takes no new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isCut = true
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) mend() {
	p.mu.Lock()
	p.isCut = false
	p.mu.Unlock()
}

func (p *proxy) drop(f func(subject string) bool) {
	p.mu.Lock()
	p.swallow = f
	p.mu.Unlock()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil || !p.keep(client, server) {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		p.all.Go(func() { _, _ = io.Copy(server, client); p.end(client, server) })
		p.all.Go(func() { p.down(client, server); p.end(client, server) })
	}
}

// keep notes connections, which cut then closes. It is false while cut.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.isCut
}

func (p *proxy) end(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

// down copies what the server says, message by message.
func (p *proxy) down(client, server net.Conn) {
	in, out := bufio.NewReader(server), bufio.NewWriter(client)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		body, subject := 0, ""
		if fields := bytes.Fields(line); len(fields) > 3 && bytes.HasSuffix(fields[0], []byte("MSG")) {
			body, _ = strconv.Atoi(string(fields[len(fields)-1]))
			body += len("\r\n")
			subject = string(fields[1])
		}
		message := append(line, make([]byte, body)...)
		if _, err := io.ReadFull(in, message[len(line):]); err != nil {
			return
		}
		p.mu.Lock()
		gone := subject != "" && p.swallow != nil && p.swallow(subject)
		p.mu.Unlock()
		if !gone {
			_, _ = out.Write(message)
		}
		// Behind one that is swallowed too: what came before it is to go on.
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}
