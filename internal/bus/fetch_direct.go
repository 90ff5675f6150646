package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"pushgate/api"
)

// directGet is the request for several messages. Any replica answers.
type directGet struct {
	Seq      uint64   `json:"seq"`
	NextFor  string   `json:"next_by_subj,omitempty"`
	Batch    int      `json:"batch,omitempty"`
	MaxBytes int      `json:"max_bytes"`
	Multi    []string `json:"multi_last,omitempty"`
	UpToSeq  uint64   `json:"up_to_seq,omitempty"`
}

// batch is the answer.
type batch struct {
	events []api.Event
	last   uint64 // of the messages, 0 without any
	more   bool   // the replica has more
}

var (
	errForeign = errors.New("the stream gave an event that was not asked for")
	errNobody  = errors.New("no server answers direct gets")
	errTorn    = errors.New("messages of a direct get were lost on the way")
)

// direct gets a batch, and tries again when it fails.
func (f *fetcher) direct(ctx context.Context, r directGet, id string, patterns ...string) (b batch, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return b, err
	}
	err = f.insist(ctx, func() error {
		messages, err := f.requestMany(ctx, "$JS.API.DIRECT.GET."+f.stream.Name, body)
		if err != nil {
			return err
		}
		if b, err = f.readBatch(messages, r, id, patterns); errors.Is(err, errNobody) {
			// Is there no stream any more, or no server that has it now?
			if _, gone := f.ask(ctx); gone != nil {
				return gone
			}
		}
		return err
	})
	return b, err
}

// requestMany sends a request and waits until its answer has ended.
func (f *fetcher) requestMany(ctx context.Context, subject string, body []byte) ([]*nats.Msg, error) {
	ctx, leave, err := f.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	c, err := f.mux.open(f.b.conn)
	if err != nil {
		return nil, err
	}
	defer f.mux.forget(c)
	if err := f.b.conn.PublishRequest(subject, c.reply, body); err != nil {
		return nil, err
	}
	select {
	case <-c.ended:
		return c.messages, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("stream %q did not answer a direct get: %w", f.stream.Name, ctx.Err())
	}
}

// readBatch reads an answer: messages, then a status. Each message names the one
// before it, and the status the last one.
func (f *fetcher) readBatch(messages []*nats.Msg, r directGet, id string, patterns []string) (b batch, err error) {
	end := messages[len(messages)-1]
	unread := false
	for _, m := range messages[:len(messages)-1] {
		if len(m.Header) == 0 {
			// The publisher's headers cannot be parsed, and the server's with
			// them. The message behind it tells its sequence.
			f.leaveOut("its headers cannot be read")
			unread = true
			continue
		}
		if before := number(m.Header, "Nats-Last-Sequence"); before != b.last && (!unread || before <= b.last) {
			return batch{}, errTorn
		}
		unread = false
		e, err := f.event(m, id, patterns)
		if err != nil {
			return batch{}, err
		}
		if e.Seq < r.Seq || e.Seq <= b.last {
			return batch{}, fmt.Errorf("%w: sequence %d again", errForeign, e.Seq)
		}
		b.last = e.Seq
		b.events = append(b.events, e)
	}
	switch status := end.Header.Get("Status"); {
	case status == "204":
		last := number(end.Header, "Nats-Last-Sequence")
		if last != b.last && (!unread || last <= b.last) {
			return batch{}, errTorn
		}
		b.last = last
		b.more = last > 0 && number(end.Header, "Nats-Num-Pending") > 0
		return b, nil
	case status == "404" && len(messages) == 1 && (r.Multi == nil || end.Header.Get("Description") == "No Results"):
		return b, nil
	case status == "413":
		return batch{}, api.ErrTooMany
	case status == "503":
		return batch{}, fmt.Errorf("%w for stream %q", errNobody, f.stream.Name)
	default:
		return batch{}, fmt.Errorf("stream %q refused a direct get: %s %s", f.stream.Name, status, end.Header.Get("Description"))
	}
}

// event reads a message of the stream. That it is one that was asked for is
// checked: what a user sees hangs on it.
func (f *fetcher) event(m *nats.Msg, id string, patterns []string) (api.Event, error) {
	full, _ := lastValue(m.Header, "Nats-Subject", false)
	subject, ours := strings.CutPrefix(full, f.stream.Prefix+".")
	if !ours || !slices.ContainsFunc(patterns, func(p string) bool { return api.Match(p, subject) }) {
		return api.Event{}, fmt.Errorf("%w: %.300q", errForeign, full)
	}
	e, forged, err := storedEvent(subject, f.stream.Name, m)
	if err != nil {
		return e, fmt.Errorf("%w: %w", errForeign, err)
	}
	if forged {
		f.stats.forged.Add(1)
	}
	f.stats.messages.Add(1)
	e.Cursor = api.Position{Stream: id, Seq: e.Seq}.Cursor()
	return e, nil
}

// leaveOut counts a stored message that nobody can read. It must not keep the
// others from being read.
func (f *fetcher) leaveOut(why string) {
	f.stats.unreadable.Add(1)
	f.b.log.Warn("a stored event is left out of a replay", zap.String("stream", f.stream.Name), zap.String("reason", why))
}

// number is the last value of a header, as a number; 0 where there is none.
func number(h nats.Header, name string) uint64 {
	value, _ := lastValue(h, name, false)
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return 0
	}
	return n
}
