//go:build !linux || portable

package poll

import (
	"sync"
	"time"
)

// Poller waits for readiness that goroutines report. One goroutine waits;
// others may call Wake.
type Poller struct {
	mu     sync.Mutex
	active map[source]struct{} // what may be ready
	signal chan struct{}       // of one: something changed
}

// source is a connection or a listener, registered with one poller.
type source interface {
	// ready reports what is ready now; neither: it reports again by notify.
	ready() Ready
}

// Open makes a poller; its caller closes it.
func Open() (*Poller, error) {
	return &Poller{active: map[source]struct{}{}, signal: make(chan struct{}, 1)}, nil
}

// Close frees the poller. Nobody may be waiting; registered FDs stay open.
func (p *Poller) Close() {}

// Add starts reporting when fd can be read.
func (p *Poller) Add(fd FD, tag uint64) error { return p.register(fd, tag, true, false) }

// Modify changes fd's tag and says what is reported: reading, writing.
func (p *Poller) Modify(fd FD, tag uint64, read, write bool) error {
	return p.register(fd, tag, read, write)
}

func (p *Poller) register(fd FD, tag uint64, read, write bool) error {
	c := lookup(fd)
	if c == nil {
		return errClosed
	}
	c.mu.Lock()
	c.poller, c.tag, c.wantRead, c.wantWrite = p, tag, read, write
	c.mu.Unlock()
	p.notify(c)
	return nil
}

// Remove stops all reports for fd, which stays open.
func (p *Poller) Remove(fd FD) error {
	c := lookup(fd)
	if c == nil {
		return errClosed
	}
	c.mu.Lock()
	c.poller = nil
	c.mu.Unlock()
	p.forget(c)
	return nil
}

// AddListener starts reporting when l has connections to accept.
func (p *Poller) AddListener(l *Listener, tag uint64) error {
	l.mu.Lock()
	l.pollers = append(l.pollers, p)
	l.tag = tag
	l.mu.Unlock()
	p.notify(l)
	return nil
}

// RemoveListener stops the reports for l.
func (p *Poller) RemoveListener(l *Listener) error {
	l.mu.Lock()
	for i, q := range l.pollers {
		if q == p {
			l.pollers = append(l.pollers[:i], l.pollers[i+1:]...)
			break
		}
	}
	l.mu.Unlock()
	p.forget(l)
	return nil
}

func (p *Poller) notify(s source) {
	p.mu.Lock()
	p.active[s] = struct{}{}
	p.mu.Unlock()
	p.Wake()
}

func (p *Poller) forget(s source) {
	p.mu.Lock()
	delete(p.active, s)
	p.mu.Unlock()
}

// Wake makes the current or the next Wait return at once. Any goroutine may
// call it.
func (p *Poller) Wake() {
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

// Wait fills ready and returns how many there are: at once when something is
// ready or Wake was called, else after timeoutMs (0: does not wait, -1: waits
// without end).
func (p *Poller) Wait(ready []Ready, timeoutMs int) (int, error) {
	if n := p.collect(ready); n > 0 || timeoutMs == 0 {
		return n, nil
	}
	var timeout <-chan time.Time
	if timeoutMs > 0 {
		t := time.NewTimer(time.Duration(timeoutMs) * time.Millisecond)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-p.signal:
	case <-timeout:
	}
	return p.collect(ready), nil
}

// collect asks every active source; one that is not ready leaves the set and
// notifies when that changes.
func (p *Poller) collect(ready []Ready) int {
	p.mu.Lock()
	asked := make([]source, 0, len(p.active))
	for s := range p.active {
		if len(asked) == len(ready) {
			break
		}
		asked = append(asked, s)
		delete(p.active, s)
	}
	p.mu.Unlock()
	n := 0
	for _, s := range asked {
		r := s.ready()
		if !r.Read && !r.Write {
			continue
		}
		ready[n] = r
		n++
		// Level-triggered: it is asked again until it says no.
		p.mu.Lock()
		p.active[s] = struct{}{}
		p.mu.Unlock()
	}
	return n
}
