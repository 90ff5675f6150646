package main

import (
	"bufio"
	"bytes"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"pushgate/internal/session"
)

const policyReplace = "replace_oldest"

// slowRules are slow_consumers as the sessions want them.
func (c *Config) slowRules() []session.SlowRule {
	policies := map[string]session.Policy{
		"disconnect": session.PolicyDisconnect, "drop_oldest": session.PolicyDropOldest, "latest": session.PolicyLatest,
	}
	var rules []session.SlowRule
	for _, s := range c.SlowConsumers {
		rules = append(rules, session.SlowRule{Pattern: s.Subject, Policy: policies[s.Policy]})
	}
	return rules
}

// outboxesBytes is limits.outboxes_bytes, or what memory allows.
func (c *Config) outboxesBytes() int64 {
	if n := c.Limits.OutboxesBytes; n > 0 {
		return int64(n)
	}
	return memoryLimit() / 4
}

// ringBytes is durable.ring_bytes, or less where the memory limit is low.
func (g *gateway) ringBytes() int64 {
	asked, most := int64(g.cfg.Durable.RingBytes), memoryLimit()/8
	if most == 0 || asked <= most {
		return asked
	}
	g.log.Warn("the ring is smaller than durable.ring_bytes says: the memory limit allows no more",
		zap.Int64("bytes", most), zap.Int64("asked", asked))
	return most
}

// memoryWatch sheds the slowest sessions, and turns new ones away, before the
// kernel ends a process that uses more than its memory limit. What sockets hold
// counts there, and the Go runtime does not see it: the watch leaves it room.
type memoryWatch struct {
	limit    int64
	used     func() (int64, bool) // of the limit
	resident func() (int64, bool) // of it this process's own pages
	sessions interface {
		Strain(on bool)
		Relieve(bytes int64)
	}
	setLimit func(int64)
	log      *zap.Logger

	strained bool
}

const (
	// watchEvery is how often memory is looked at.
	watchEvery = 250 * time.Millisecond
	// strainAt, relaxAt and relieveTo are shares of the limit in hundredths:
	// from the first on nobody is let in and the slowest go, down to the last,
	// until less than the second is used.
	strainAt, relaxAt, relieveTo = 90, 82, 80
)

// watchMemory begins to watch where there is a limit.
func (g *gateway) watchMemory() {
	w := memoryWatch{
		limit: memoryLimit(), used: cgroupUse, resident: residentSet, sessions: g.hub,
		setLimit: func(n int64) { debug.SetMemoryLimit(n) }, log: g.log,
	}
	if _, ok := w.used(); !ok || w.limit == 0 {
		return
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		w.setLimit = func(int64) {} // the operator knows better
	}
	g.watching.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.look()
			case <-g.life.Done():
				return
			}
		}
	})
}

func (w *memoryWatch) look() {
	used, ok := w.used()
	if !ok {
		return
	}
	if own, ok := w.resident(); ok {
		kernel := max(used-own, 0)
		w.setLimit(max(w.limit/10*9-kernel, w.limit/4))
	}
	switch {
	case used > w.limit/100*strainAt:
		if !w.strained {
			w.log.Warn("memory is short: nobody is let in, and the slowest clients are ended",
				zap.Int64("bytes", used), zap.Int64("limit", w.limit))
			w.strain(true)
		}
		w.sessions.Relieve(used - w.limit/100*relieveTo)
	case w.strained && used < w.limit/100*relaxAt:
		w.log.Info("memory suffices again", zap.Int64("bytes", used), zap.Int64("limit", w.limit))
		w.strain(false)
	}
}

func (w *memoryWatch) strain(on bool) {
	w.strained = on
	w.sessions.Strain(on)
}

// cgroupUse is what the memory limit's control group uses, without file pages
// that can be dropped.
func cgroupUse() (int64, bool) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(groups)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		switch {
		case controllers == "":
			if n, ok := groupUse("/sys/fs/cgroup", group, "memory.current", "inactive_file"); ok {
				return n, true
			}
		case strings.Contains(","+controllers+",", ",memory,"):
			n, ok := groupUse("/sys/fs/cgroup/memory", group, "memory.usage_in_bytes", "total_inactive_file")
			if !ok {
				continue
			}
			// Version 1 counts what TCP holds apart.
			tcp, _ := groupUse("/sys/fs/cgroup/memory", group, "memory.kmem.tcp.usage_in_bytes", "")
			return n + tcp, true
		}
	}
	return 0, false
}

// groupUse reads one file of a control group. In a container the group's path
// is often the host's, and its files lie at the mount's root.
func groupUse(mount, group, file, without string) (int64, bool) {
	for _, dir := range []string{path.Join(mount, group), mount} {
		text, err := os.ReadFile(path.Join(dir, file))
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return 0, false
		}
		if stat, err := os.ReadFile(path.Join(dir, "memory.stat")); err == nil && without != "" {
			n -= statOf(stat, without)
		}
		return n, true
	}
	return 0, false
}

// statOf finds a line "name value".
func statOf(stat []byte, name string) int64 {
	lines := bufio.NewScanner(bytes.NewReader(stat))
	for lines.Scan() {
		if key, value, _ := strings.Cut(lines.Text(), " "); key == name {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}

// residentSet is what this process has in memory.
func residentSet() (int64, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}
