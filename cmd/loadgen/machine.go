//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// machine is what of this machine bounds the number of sessions.
type machine struct {
	memory    int64 // available, in bytes
	files     int64 // that a process can open
	allFiles  int64 // that all processes can open, beside those that are
	tcpPages  int64 // tcp_mem's third
	backlog   int64 // somaxconn
	ports     int64 // of one source address
	conntrack int64 // room for connections; -1: they are not tracked
}

// What a session costs, both ends, and a process, in bytes: what
// docs/benchmarks.md measured, rounded up.
const (
	kernelCost  = 8600
	userCost    = 512
	bufferCost  = 1280 // of an event of 256 B that is not read yet
	processCost = 32 << 20
	spareMemory = 1 << 30
)

// sourceAddresses is how many addresses the clients of a fleet use.
const sourceAddresses = 16

// sparedFiles is what a process needs beside its sessions.
const sparedFiles = 2000

// plan is how sessions are spread over processes.
type plan struct {
	sessions, gateways int
	crew               int // sessions of a process of clients, at most
}

// planFor spreads sessions over as many gateways as the descriptor limit asks
// for, or over more.
func planFor(sessions, gateways int, files int64) plan {
	room := max(int(files)-sparedFiles, 1)
	return plan{sessions, max(gateways, (sessions+room-1)/room), min(room, maxClients)}
}

// share is the sessions of the i-th gateway: the first user's number, and how
// many.
func (p plan) share(i int) (first, n int) {
	first = i * p.sessions / p.gateways
	return first, (i+1)*p.sessions/p.gateways - first
}

func (p plan) processes() int {
	crews := 0
	for i := range p.gateways {
		_, n := p.share(i)
		crews += (n + p.crew - 1) / p.crew
	}
	return crews + p.gateways
}

// need is one thing that a machine must have.
type need struct {
	name       string
	want, have int64
	why        string
}

func (m machine) needs(p plan) []need {
	n := int64(p.sessions)
	each := (n + int64(p.gateways) - 1) / int64(p.gateways)
	needs := []need{
		{"available memory, MiB", (n*(kernelCost+userCost+bufferCost) + int64(p.processes())*processCost + spareMemory) >> 20, m.memory >> 20,
			fmt.Sprintf("%d B a session of kernel, buffers and processes, and %d processes", kernelCost+userCost+bufferCost, p.processes())},
		{"descriptors a process (ulimit -Hn)", sparedFiles + 500, m.files, "with fewer there are too many processes"},
		{"fs.file-max, beside what is open", 2*n + 100*int64(p.processes()), m.allFiles, "two sockets a session"},
		{"net.ipv4.tcp_mem, third value", n * bufferCost / 4096, m.tcpPages, "pages of 4 KiB, while a broadcast is on its way"},
		{"net.core.somaxconn", parallel, m.backlog, "handshakes under way to a gateway"},
		{"net.ipv4.ip_local_port_range", (each + sourceAddresses - 1) / sourceAddresses, m.ports, "ports to one gateway from each source address"},
	}
	if m.conntrack >= 0 {
		needs = append(needs, need{"net.netfilter.nf_conntrack_max, beside what is tracked", n, m.conntrack, "this machine tracks loopback connections"})
	}
	return needs
}

// check shows what the machine must have and refuses one that has not. It
// changes nothing.
func check(needs []need) error {
	var short []error
	w := tabwriter.NewWriter(os.Stderr, 0, 4, 2, ' ', 0)
	for _, n := range needs {
		_, _ = fmt.Fprintf(w, "%s\tneeds %d\thas %d\t%s\n", n.name, n.want, n.have, n.why)
		if n.have < n.want {
			short = append(short, fmt.Errorf("%s: %d are needed and %d are there (%s)", n.name, n.want, n.have, n.why))
		}
	}
	_ = w.Flush()
	if len(short) > 0 {
		return fmt.Errorf("this machine is too small for so many sessions, or must be set up first; nothing was started:\n%w", errors.Join(short...))
	}
	return nil
}

// thisMachine reads what it has.
func thisMachine() (machine, error) {
	info, err := keyedBytes("/proc/meminfo")
	if err != nil {
		return machine{}, err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return machine{}, err
	}
	m := machine{memory: info["MemAvailable"], files: int64(min(limit.Max, 1<<30)), conntrack: -1}
	used, err := numbers("fs/file-nr", 3)
	if err != nil {
		return machine{}, err
	}
	m.allFiles = used[2] - used[0]
	pages, err := numbers("net/ipv4/tcp_mem", 3)
	if err != nil {
		return machine{}, err
	}
	m.tcpPages = pages[2] * int64(os.Getpagesize()) / 4096
	ports, err := numbers("net/ipv4/ip_local_port_range", 2)
	if err != nil {
		return machine{}, err
	}
	m.ports = ports[1] - ports[0] + 1
	backlog, err := numbers("net/core/somaxconn", 1)
	if err != nil {
		return machine{}, err
	}
	m.backlog = backlog[0]
	m.conntrack, err = conntrackRoom()
	return m, err
}

// conntrackRoom is how many more connections can be tracked; -1 where those of
// the loopback are not. That shows only while there is one.
func conntrackRoom() (int64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	count, err := numbers("net/netfilter/nf_conntrack_count", 1)
	if errors.Is(err, os.ErrNotExist) || err == nil && count[0] == 0 {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	most, err := numbers("net/netfilter/nf_conntrack_max", 1)
	if err != nil {
		return 0, err
	}
	return most[0] - count[0], nil
}

// numbers reads a sysctl of n numbers.
func numbers(name string, n int) ([]int64, error) {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(b))
	values := make([]int64, len(fields))
	for i, field := range fields {
		if _, err := fmt.Sscan(field, &values[i]); err != nil {
			return nil, fmt.Errorf("/proc/sys/%s holds %q", name, b)
		}
	}
	if len(values) != n {
		return nil, fmt.Errorf("/proc/sys/%s holds %q", name, b)
	}
	return values, nil
}
