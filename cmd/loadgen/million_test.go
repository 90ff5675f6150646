//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		sessions, gateways int
		files              int64
		wantGateways       int
		wantProcesses      int
	}{
		{1_000_000, 0, 20_000, 56, 112},
		{1_000_000, 0, 1 << 20, 1, 57},
		{6_000, 3, 20_000, 3, 6},
		{1, 0, 20_000, 1, 2},
	} {
		p := planFor(c.sessions, c.gateways, c.files)
		if p.gateways != c.wantGateways || p.processes() != c.wantProcesses {
			t.Errorf("%+v: %d gateways, %d processes", c, p.gateways, p.processes())
		}
		next := 0
		for _, s := range (&million{plan: p}).shares() {
			if s.first != next || s.n < 1 || s.n > maxClients {
				t.Errorf("%+v: a share is %+v, and user %d is the next", c, s, next)
			}
			next += s.n
		}
		if next != c.sessions {
			t.Errorf("%+v: the shares are %d sessions", c, next)
		}
	}
}

func TestSmallMachineIsRefused(t *testing.T) {
	large := machine{memory: 24 << 30, files: 20_000, allFiles: 2_400_000, tcpPages: 575_802, backlog: 4096, ports: 28_232, conntrack: -1}
	p := planFor(1_000_000, 0, large.files)
	if err := check(large.needs(p)); err != nil {
		t.Errorf("a machine that can is refused: %v", err)
	}
	for name, spoil := range map[string]func(*machine){
		"available memory":                func(m *machine) { m.memory = 4 << 30 },
		"fs.file-max":                     func(m *machine) { m.allFiles = 1_000_000 },
		"net.ipv4.tcp_mem":                func(m *machine) { m.tcpPages = 100_000 },
		"net.core.somaxconn":              func(m *machine) { m.backlog = 64 },
		"net.ipv4.ip_local_port_range":    func(m *machine) { m.ports = 1000 },
		"net.netfilter.nf_conntrack_max":  func(m *machine) { m.conntrack = 262_144 },
		"descriptors a process (ulimit -": func(m *machine) { m.files = 1024 },
	} {
		small := large
		spoil(&small)
		if err := check(small.needs(p)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := thisMachine(); err != nil {
		t.Errorf("this machine: %v", err)
	}
}

// TestCrewObeys gives a crew's fleet orders as the other process would.
func TestCrewObeys(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := target{Addr: greeter(t, l, make(chan string, 8)), Users: "u", Secret: benchSecret, Protocol: "pushgate"}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	f, err := s.dial(ctx, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	var answers bytes.Buffer
	if err := f.obey(strings.NewReader("measure 7\n"), &answers); err != nil {
		t.Fatal(err)
	}
	f.run.take(&f.conns[0].tracker, payload(nil, 7, 1, 100, 256), 1100)
	f.run.take(&f.conns[0].tracker, payload(nil, 8, 1, 100, 256), 1200)
	r := f.run.report(f.gone.Load())
	if b, err := json.Marshal(r); err != nil || r.Arrived != 1 || r.Last != 1100 || !strings.Contains(string(b), fmt.Sprintf(`"%d":1`, bucketOf(1000))) {
		t.Errorf("of run 7 and another it reports %s, %v", b, err)
	}
	if err := f.obey(strings.NewReader("dance\n"), &answers); err == nil {
		t.Error("it dances")
	}
}
