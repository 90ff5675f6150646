package bus

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pushgate/api"
)

// reading is what one lane asks for.
type reading struct {
	stream, pattern string
	after, through  uint64
	bytes           int
}

// stretch is what it gets. It is shared, and nobody changes it.
type stretch struct {
	events  []api.Event
	through uint64 // everything up to here is in events
}

const (
	// maxMessages is how many messages one direct get may bring.
	maxMessages = 512
	// maxLagging is how often one read meets a replica that lags before it
	// gives what it has.
	maxLagging = 5
)

func (f *fetcher) readShared(ctx context.Context, r reading) (stretch, error) {
	key := fmt.Sprintf("%s %d %d %d %s", r.stream, r.after, r.through, r.bytes, r.pattern)
	return f.share(ctx, key, func() (stretch, error) { return f.read(ctx, r) })
}

// read brings some of the pattern's events, and at least says how far there are
// none.
func (f *fetcher) read(ctx context.Context, r reading) (got stretch, err error) {
	next := r.after + 1
	request := directGet{NextFor: f.full(r.pattern), Batch: maxMessages, MaxBytes: min(r.bytes, maxRead)}
	bytes := 0
	for n := 0; ; n++ {
		request.Seq = next
		b, err := f.direct(ctx, request, r.stream, r.pattern)
		if err != nil {
			return got, err
		}
		for _, e := range b.events {
			if e.Seq > r.through {
				break
			}
			got.events = append(got.events, e)
			bytes += e.Size()
		}
		next = max(next, b.last+1)
		switch {
		case next > r.through:
			got.through = r.through
			return got, nil
		case b.more:
			got.through = next - 1
			return got, nil
		}
		// The replica has no more of it. Does the leader?
		e, seq, err := f.leaderNext(ctx, r.stream, r.pattern, next, r.through)
		switch {
		case err != nil:
			return got, err
		case seq == 0:
			got.through = r.through
			return got, nil
		}
		f.stats.lagged.Add(1)
		if e != nil {
			got.events = append(got.events, *e)
			bytes += e.Size()
		}
		next, got.through = seq+1, seq
		if next > r.through || bytes >= r.bytes || n == maxLagging || !pause(ctx, n) {
			return got, nil
		}
	}
}

// newest builds the page of a Fetch with Last: no more than one read, which may
// take several direct gets.
func (f *fetcher) newest(ctx context.Context, r api.Fetch) (api.Page, error) {
	page := api.Page{Through: r.Through}
	if len(r.Subjects) == 0 || r.After >= r.Through {
		return page, nil
	}
	key := fmt.Sprintf("%s %d %d last %s", r.Stream, r.After, r.Through, strings.Join(r.Subjects, " "))
	got, err := f.share(ctx, key, func() (stretch, error) { return f.readNewest(ctx, r) })
	page.Events = slices.Clone(got.events)
	return page, err
}

// readNewest merges what several replicas may have said: what a later answer or
// the leader tells of a subject is newer.
func (f *fetcher) readNewest(ctx context.Context, r api.Fetch) (stretch, error) {
	found := newestEvents{events: make(map[string]api.Event)}
	request := directGet{UpToSeq: r.Through, MaxBytes: maxRead}
	for _, p := range r.Subjects {
		request.Multi = append(request.Multi, f.full(p))
	}
	next := r.After + 1
	for more := true; more && next <= r.Through; {
		request.Seq = next
		b, err := f.direct(ctx, request, r.Stream, r.Subjects...)
		if err != nil {
			return stretch{}, err
		}
		for _, e := range b.events {
			if err := found.add(e); err != nil {
				return stretch{}, err
			}
		}
		next, more = max(next, b.last+1), b.more
	}
	// A replica that gave a sequence had everything before it. What lies behind
	// the last one would be a newer event that it did not have.
	for _, p := range r.Subjects {
		for from := next; from <= r.Through; {
			e, seq, err := f.leaderNext(ctx, r.Stream, p, from, r.Through)
			if err != nil {
				return stretch{}, err
			}
			if seq == 0 {
				break
			}
			f.stats.lagged.Add(1)
			if e != nil {
				if err := found.add(*e); err != nil {
					return stretch{}, err
				}
			}
			from = seq + 1
		}
	}
	return stretch{events: found.inOrder(), through: r.Through}, nil
}

// newestEvents holds the newest event of each subject.
type newestEvents struct {
	events map[string]api.Event
	bytes  int
}

func (n *newestEvents) add(e api.Event) error {
	old, has := n.events[e.Subject]
	if has && old.Seq >= e.Seq {
		return nil
	}
	n.events[e.Subject] = e
	if n.bytes += e.Size() - old.Size(); n.bytes > maxNewest {
		return fmt.Errorf("%w: their newest events are larger than %d bytes together", api.ErrTooMany, maxNewest)
	}
	return nil
}

func (n *newestEvents) inOrder() []api.Event {
	return slices.SortedFunc(maps.Values(n.events), func(a, b api.Event) int { return cmp.Compare(a.Seq, b.Seq) })
}

// full is the pattern as the stream stores it.
func (f *fetcher) full(pattern string) string { return f.stream.Prefix + "." + pattern }
