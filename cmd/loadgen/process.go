//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// admin asks servers about themselves, without a connection that stays: it would
// count among their descriptors.
var admin = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// cpu is what the server has used so far, all threads, user and system.
func (t *target) cpu() (time.Duration, error) {
	if t.PID == 0 {
		return 0, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.PID))
	if err != nil {
		return 0, fmt.Errorf("the server's process: %w", err)
	}
	// The name, in parentheses, may hold spaces.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat cannot be read", t.PID)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil // USER_HZ is 100
}

// files is how many descriptors the server has open; 0 is unknown.
func (t *target) files() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", t.PID))
	if err != nil {
		return 0
	}
	return len(entries)
}

// awaitFiles waits until the server has closed what was closed here and has
// no more than n descriptors, ten seconds at most.
func (t *target) awaitFiles(n int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); t.files() > n && time.Now().Before(end); {
		<-tick.C
	}
}

// memory is a reading of the server's and the kernel's memory, in bytes.
type memory struct {
	RSS       int64 `json:"rss"`
	Anonymous int64 `json:"anonymous"`
	Slab      int64 `json:"kernel_slab"`
}

// memory reads after a forced collection that gives free pages back.
func (t *target) memory() (memory, error) {
	if err := t.freeMemory(); err != nil {
		return memory{}, err
	}
	rollup, err := keyedBytes(fmt.Sprintf("/proc/%d/smaps_rollup", t.PID))
	if err != nil {
		return memory{}, err
	}
	machine, err := keyedBytes("/proc/meminfo")
	if err != nil {
		return memory{}, err
	}
	return memory{RSS: rollup["Rss"], Anonymous: rollup["Anonymous"], Slab: machine["Slab"]}, nil
}

// rss is what the server has resident, in bytes, as it is.
func (t *target) rss() (int64, error) {
	rollup, err := keyedBytes(fmt.Sprintf("/proc/%d/smaps_rollup", t.PID))
	return rollup["Rss"], err
}

// freeMemory has a gateway collect and give back what it can; a peer without
// the endpoint is measured as it is.
func (t *target) freeMemory() error {
	if t.Debug == "" {
		return nil
	}
	resp, err := admin.Post("http://"+t.Debug+"/debug/freemem", "", nil)
	if err != nil {
		return fmt.Errorf("forcing a collection: %w", err)
	}
	return resp.Body.Close()
}

// goroutines asks a gateway how many it has; -1 is unknown.
func (t *target) goroutines() int {
	if t.Debug == "" {
		return -1
	}
	resp, err := admin.Get("http://" + t.Debug + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return -1
	}
	defer func() { _ = resp.Body.Close() }()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]))
	if err != nil {
		return -1
	}
	return n
}

// liveHeap is what a gateway's heap holds after a collection, read without the
// garbage that reading its metrics makes.
func (t *target) liveHeap() (int64, error) {
	resp, err := admin.Get("http://" + t.Debug + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, fmt.Errorf("reading the heap: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "# HeapAlloc = "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, errors.New("the heap's profile does not say how large it is")
}

// counter reads one of the gateway's counters: name and labels as /metrics
// writes them.
func (t *target) counter(name string) (float64, error) {
	resp, err := admin.Get("http://" + t.admin + "/metrics")
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("the gateway has no %s", name)
}

// keyedBytes reads a file of lines such as "Rss:  1234 kB".
func keyedBytes(path string) (map[string]int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		key, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) != 2 || fields[1] != "kB" {
			continue
		}
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			values[key] = n << 10
		}
	}
	return values, nil
}
