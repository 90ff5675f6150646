package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"pushgate/api"
)

const (
	maxRequests = 16       // under way at NATS at a time
	maxBuilding = 64       // pages at a time, most of which wait for a request
	maxPages    = 64 << 20 // bytes of payload in pages that are being built
	maxPage     = 4 << 20  // bytes of payload of one page
	maxNewest   = 16 << 20 // bytes of payload of a Fetch with Last
	maxEvents   = 4096     // of one page, however small

	queueWithin   = 30 * time.Second // until its turn
	requestWithin = 2 * time.Second  // one request to NATS
)

// fetchWithin is from its turn until a Fetch fails. Tests are more patient.
var fetchWithin = 10 * time.Second

var (
	errClosed = errors.New("the connection to NATS is closed")
	errBusy   = fmt.Errorf("too many stored events are asked for: no turn within %s", queueWithin)
)

// fetcher gets stored events.
type fetcher struct {
	b      *Bus
	stream *stream
	ctx    context.Context // ends with the bus
	cancel context.CancelFunc
	slots  chan struct{} // of maxRequests
	mux    mux
	shared flights
	looks  looks
	stats  fetchCounters

	all      sync.WaitGroup // of the goroutines
	mu       sync.Mutex
	closed   bool
	queue    []fetching // in the order of asking
	building int
	bytes    int // that they may hold
}

// fetching is a Fetch that waits for its turn.
type fetching struct {
	api.Fetch
	done  func(api.Page, error)
	since time.Time
}

func newFetcher(b *Bus, s *stream) *fetcher {
	f := &fetcher{b: b, stream: s, slots: make(chan struct{}, maxRequests)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Fetch gets stored events. It returns at once; done is called exactly once, on
// another goroutine, and must not block. A page need not reach as far as was
// asked: Page.Through tells, and the next Fetch begins After it.
//
// Trimmed is never set with Last. An error says that the events could not be
// got within ten seconds of the Fetch's turn, never that there are none.
func (b *Bus) Fetch(r api.Fetch, done func(api.Page, error)) {
	if b.fetcher == nil {
		go done(api.Page{}, ErrNoStream)
		return
	}
	b.fetcher.add(fetching{Fetch: r, done: done, since: time.Now()})
}

// weight is how many bytes of payload are held at most, about, while the page is
// built: what its patterns have brought comes on top of what is in it.
func (x *fetching) weight() int {
	if x.Last {
		return maxNewest
	}
	return 2 * size(x.Bytes)
}

func (f *fetcher) add(x fetching) {
	if err := checkFetch(&x.Fetch); err != nil {
		go x.done(api.Page{}, err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		go x.done(api.Page{}, errClosed)
		return
	}
	f.queue = append(f.queue, x)
	f.begin()
}

// checkFetch refuses what NATS would misunderstand, and bounds a page.
func checkFetch(r *api.Fetch) error {
	for _, p := range r.Subjects {
		if !api.ValidPattern(p) {
			return fmt.Errorf("%.300q is no subject", p)
		}
	}
	r.Subjects = distinct(r.Subjects)
	r.Bytes = min(max(r.Bytes, 1), maxPage)
	return nil
}

// distinct leaves out patterns that others cover.
func distinct(patterns []string) []string {
	var left []string
	for i, p := range patterns {
		covered := func(j int) bool {
			q := patterns[j]
			return j != i && api.Covers(q, p) && (j < i || !api.Covers(p, q))
		}
		any := false
		for j := range patterns {
			any = any || covered(j)
		}
		if !any {
			left = append(left, p)
		}
	}
	slices.Sort(left)
	return left
}

// begin starts those whose turn it is. f.mu is held.
func (f *fetcher) begin() {
	for len(f.queue) > 0 && !f.closed {
		x := f.queue[0]
		if f.building == maxBuilding || f.bytes+x.weight() > maxPages {
			return // and nobody behind it overtakes
		}
		f.queue[0] = fetching{}
		f.queue = f.queue[1:]
		f.building++
		f.bytes += x.weight()
		f.all.Go(func() { f.build(x) })
	}
}

func (f *fetcher) build(x fetching) {
	page, err := f.tryPage(x)
	if err != nil {
		f.stats.errors.Add(1)
		page = api.Page{}
	}
	f.mu.Lock()
	f.building--
	f.bytes -= x.weight()
	f.begin()
	f.mu.Unlock()
	x.done(page, err)
}

func (f *fetcher) tryPage(x fetching) (api.Page, error) {
	if time.Since(x.since) > queueWithin {
		return api.Page{}, errBusy
	}
	ctx, cancel := context.WithTimeout(f.ctx, fetchWithin)
	defer cancel()
	select {
	case <-f.b.started:
		return f.page(ctx, x.Fetch)
	case <-ctx.Done():
		return api.Page{}, f.ended(ctx, errAway)
	}
}

// stop fails whatever is not done, and waits until all were told. It is for
// before the connection's end.
func (f *fetcher) stop() {
	f.mu.Lock()
	waiting := f.queue
	f.queue, f.closed = nil, true
	f.all.Go(func() {
		for _, x := range waiting {
			x.done(api.Page{}, errClosed)
		}
	})
	f.mu.Unlock()
	f.cancel()
	f.all.Wait()
}
