package bus

import (
	"context"
	"sync"

	"pushgate/api"
)

// lane is what one pattern has brought and the page has not taken.
type lane struct {
	pattern string
	events  []api.Event
	through uint64 // everything that matches up to here was brought
}

// next is the first sequence that the lane may hold yet.
func (l *lane) next() uint64 {
	if len(l.events) > 0 {
		return l.events[0].Seq
	}
	return l.through + 1
}

// merge reads patterns side by side and takes their events in stream order, each
// once, until the page is full or all is there.
func (f *fetcher) merge(ctx context.Context, r api.Fetch) (api.Page, error) {
	lanes := make([]lane, len(r.Subjects))
	for i, p := range r.Subjects {
		lanes[i] = lane{pattern: p, through: min(r.After, r.Through)}
	}
	page := api.Page{Through: r.Through}
	bytes := 0
	for {
		// A lane that has run dry holds up the others, because it may bring
		// what comes before theirs. A page that is nearly full goes without.
		if dry := dryLanes(lanes, r.Through); len(dry) > 0 {
			if bytes > r.Bytes/4*3 {
				break
			}
			if err := f.fill(ctx, r, lanes, dry, bytes); err != nil {
				return page, err
			}
			continue
		}
		e := first(lanes)
		if e == nil {
			return page, nil
		}
		if n := len(page.Events); n == maxEvents || n > 0 && bytes+weight(e) > r.Bytes {
			break
		}
		page.Events = append(page.Events, *e)
		bytes += weight(e)
		take(lanes, e.Seq)
	}
	for i := range lanes {
		page.Through = min(page.Through, lanes[i].next()-1)
	}
	return page, nil
}

// weight is what an event counts for in a page.
func weight(e *api.Event) int { return e.Size() + api.EventOverhead }

// dryLanes are those with nothing left that are not at their end.
func dryLanes(lanes []lane, through uint64) (dry []*lane) {
	for i := range lanes {
		if l := &lanes[i]; len(l.events) == 0 && l.through < through {
			dry = append(dry, l)
		}
	}
	return dry
}

// first is the event that comes next, nil when there is none.
func first(lanes []lane) (e *api.Event) {
	for i := range lanes {
		if l := &lanes[i]; len(l.events) > 0 && (e == nil || l.events[0].Seq < e.Seq) {
			e = &l.events[0]
		}
	}
	return e
}

// take removes the event from all that have brought it.
func take(lanes []lane, seq uint64) {
	for i := range lanes {
		if l := &lanes[i]; len(l.events) > 0 && l.events[0].Seq == seq {
			l.events = l.events[1:]
		}
	}
}

// maxReads is how many patterns are read at a time for one page, so that a page
// of many is no flood to the others.
const maxReads = 4

// fill reads on for lanes that have run dry. They share what is left of the page.
func (f *fetcher) fill(ctx context.Context, r api.Fetch, lanes []lane, dry []*lane, bytes int) error {
	left := r.Bytes - bytes
	for i := range lanes {
		for j := range lanes[i].events {
			left -= weight(&lanes[i].events[j])
		}
	}
	share := size(left / len(dry))
	errs := make([]error, len(dry))
	for start := 0; start < len(dry); start += maxReads {
		var group sync.WaitGroup
		for i := start; i < min(start+maxReads, len(dry)); i++ {
			group.Go(func() {
				l := dry[i]
				var got stretch
				got, errs[i] = f.readShared(ctx, reading{r.Stream, l.pattern, l.through, r.Through, share})
				l.events, l.through = got.events, got.through
			})
		}
		group.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	minRead = 4 << 10
	maxRead = 1 << 20
)

// size rounds bytes to a few sizes, so that equal reads are equal.
func size(bytes int) int {
	n := minRead
	for n < bytes {
		n *= 2
	}
	return n
}
