//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// toll is the CPU of a time, by who used it, in seconds.
type toll struct {
	Gateways float64 `json:"gateways"`
	NATS     float64 `json:"nats"`
	Clients  float64 `json:"clients"`
}

// cpu is what all processes have used so far.
func (m *million) cpu() (t toll, err error) {
	of := func(pid int) float64 {
		d, why := (&target{PID: pid}).cpu()
		if why != nil {
			err = why
		}
		return d.Seconds()
	}
	for i := range m.gateways {
		t.Gateways += of(m.gateways[i].PID)
	}
	t.NATS = of(m.servers.processes[0].Process.Pid)
	for _, c := range m.crews {
		t.Clients += of(c.cmd.Process.Pid)
	}
	return t, err
}

// used notes what has been used since.
func (m *million) used(since toll, into *toll) error {
	now, err := m.cpu()
	*into = toll{now.Gateways - since.Gateways, now.NATS - since.NATS, now.Clients - since.Clients}
	return err
}

// holding is a reading of memory, in bytes, with all gateways as one.
type holding struct {
	RSS       int64 `json:"gateways_rss"`
	PSS       int64 `json:"gateways_pss"`
	NATS      int64 `json:"nats_rss"`
	Clients   int64 `json:"clients_pss"`
	Slab      int64 `json:"kernel_slab"`
	Sockets   int64 `json:"kernel_socket_buffers"`
	Tables    int64 `json:"kernel_stacks_and_page_tables"`
	Available int64 `json:"machine_available"`
}

// look reads memory, after a collection in all gateways where it is forced.
func (m *million) look(h *holding, forced bool) error {
	for i := range m.gateways {
		g := &m.gateways[i]
		if forced {
			if err := g.freeMemory(); err != nil {
				return err
			}
		}
		rollup, err := keyedBytes(fmt.Sprintf("/proc/%d/smaps_rollup", g.PID))
		if err != nil {
			return err
		}
		h.RSS, h.PSS = h.RSS+rollup["Rss"], h.PSS+rollup["Pss"]
	}
	for _, c := range m.crews {
		rollup, err := keyedBytes(fmt.Sprintf("/proc/%d/smaps_rollup", c.cmd.Process.Pid))
		if err != nil {
			return err
		}
		h.Clients += rollup["Pss"]
	}
	nats, err := (&target{PID: m.servers.processes[0].Process.Pid}).rss()
	if err != nil {
		return err
	}
	info, err := keyedBytes("/proc/meminfo")
	if err != nil {
		return err
	}
	h.NATS, h.Slab, h.Available = nats, info["Slab"], info["MemAvailable"]
	h.Tables = info["KernelStack"] + info["PageTables"]
	h.Sockets, err = socketBuffers()
	return err
}

// socketBuffers is what TCP holds in buffers, in bytes.
func socketBuffers() (int64, error) {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var pages int64
		if _, at, ok := strings.Cut(line, " mem "); ok && strings.HasPrefix(line, "TCP:") {
			_, err := fmt.Sscan(at, &pages)
			return pages * int64(os.Getpagesize()), err
		}
	}
	return 0, fmt.Errorf("/proc/net/sockstat holds %q", b)
}

// phase is one part of the run.
type phase struct {
	Seconds float64   `json:"seconds"`
	CPU     toll      `json:"cpu_seconds"`
	ToLast  []float64 `json:"seconds_to_the_last,omitempty"`
	Sent    int64     `json:"expected"`
	Arrived int64     `json:"arrived"`
	Twice   int64     `json:"duplicated"`
	Late    int64     `json:"out_of_order"`
	Gone    int64     `json:"sessions_dropped"`
	latencies
	latency histogram
}

func (p *phase) add(r *run, want, gone int64) {
	p.Sent, p.Arrived, p.Gone = p.Sent+want, p.Arrived+r.arrived, gone
	p.Twice, p.Late = p.Twice+r.twice, p.Late+r.late
	p.latency.addAll(r.latency.sparse())
}

func (p *phase) finish() { p.latencies = p.latency.latencies() }

func (p *phase) losses() string {
	return fmt.Sprintf("%d of %d lost, %d twice, %d out of order; %d sessions dropped", p.Sent-p.Arrived, p.Sent, p.Twice, p.Late, p.Gone)
}

// millionResult is what the run gave.
type millionResult struct {
	Sessions  int     `json:"sessions"`
	Gateways  int     `json:"gateways"`
	Crews     int     `json:"client_processes"`
	Base      holding `json:"memory_empty"`
	AsIs      holding `json:"memory_held_as_it_is"`
	Held      holding `json:"memory_held"`
	After     holding `json:"memory_after_events"`
	Connect   phase   `json:"connect"`
	Idle      phase   `json:"idle"`
	Broadcast phase   `json:"broadcast"`
	Unicast   phase   `json:"unicast"`
}

func (r *millionResult) rows() [][2]string {
	n := float64(r.Sessions)
	mib := func(b int64) string { return fmt.Sprintf("%.0f MiB", float64(b)/(1<<20)) }
	each := func(b int64) string { return fmt.Sprintf("%.0f B", float64(b)/n) }
	var first, middle, last time.Duration
	if all := slices.Sorted(slices.Values(r.Broadcast.ToLast)); len(all) > 0 {
		seconds := func(v float64) time.Duration { return time.Duration(v * float64(time.Second)).Round(time.Millisecond) }
		first, middle, last = seconds(all[0]), seconds(all[len(all)/2]), seconds(all[len(all)-1])
	}
	idle := r.Idle.Seconds
	return [][2]string{
		{"gateways, empty", fmt.Sprintf("PSS %s in all, RSS %s (%s each)", mib(r.Base.PSS), mib(r.Base.RSS), mib(r.Base.RSS/int64(r.Gateways)))},
		{"gateways, holding all", fmt.Sprintf("PSS %s, RSS %s; before a forced collection PSS %s", mib(r.Held.PSS), mib(r.Held.RSS), mib(r.AsIs.PSS))},
		{"user space a session", fmt.Sprintf("%s more than empty (%s before a collection), %s with what gateways cost empty",
			each(r.Held.PSS-r.Base.PSS), each(r.AsIs.PSS-r.Base.PSS), each(r.Held.PSS))},
		{"after the events", fmt.Sprintf("gateways PSS %s as it is", mib(r.After.PSS))},
		{"kernel, both ends", fmt.Sprintf("slab %s more, %s a session; socket buffers %s more; stacks and page tables %s more", mib(r.Held.Slab-r.Base.Slab),
			each(r.Held.Slab-r.Base.Slab), mib(r.Held.Sockets-r.Base.Sockets), mib(r.Held.Tables-r.Base.Tables))},
		{"NATS, clients", fmt.Sprintf("RSS %s, PSS %s", mib(r.Held.NATS), mib(r.Held.Clients))},
		{"machine", fmt.Sprintf("%s less available than before", mib(r.Base.Available-r.Held.Available))},
		{"connecting", fmt.Sprintf("%.0f s; CPU gateways %.0f s (%.1f µs a handshake), clients %.0f s", r.Connect.Seconds, r.Connect.CPU.Gateways,
			r.Connect.CPU.Gateways/n*1e6, r.Connect.CPU.Clients)},
		{"idle, heartbeats only", fmt.Sprintf("CPU gateways %.1f %%, clients %.1f %%, NATS %.1f %% of one core, over %.0f s", r.Idle.CPU.Gateways/idle*100,
			r.Idle.CPU.Clients/idle*100, r.Idle.CPU.NATS/idle*100, idle)},
		{"event to all, until the last has it", fmt.Sprintf("%s (%s–%s); p50 %.0f ms, p99 %.0f ms", middle, first, last, r.Broadcast.P50, r.Broadcast.P99)},
		{"", fmt.Sprintf("CPU gateways %.2f s, clients %.2f s a million; %s", r.Broadcast.CPU.Gateways/float64(max(r.Broadcast.Arrived, 1))*1e6,
			r.Broadcast.CPU.Clients/float64(max(r.Broadcast.Arrived, 1))*1e6, r.Broadcast.losses())},
		{"events to single users", fmt.Sprintf("%d in %.1f s; p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms", r.Unicast.Sent, r.Unicast.Seconds, r.Unicast.P50, r.Unicast.P99, r.Unicast.P999)},
		{"", fmt.Sprintf("CPU gateways %.1f s, NATS %.1f s, clients %.1f s; %s", r.Unicast.CPU.Gateways, r.Unicast.CPU.NATS, r.Unicast.CPU.Clients, r.Unicast.losses())},
	}
}
