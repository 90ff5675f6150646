package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"pushgate/api"
)

// leaderAnswer is what STREAM.MSG.GET gives.
type leaderAnswer struct {
	Error   *jetstream.APIError `json:"error"`
	Message *struct {
		Subject string    `json:"subject"`
		Seq     uint64    `json:"seq"`
		Header  []byte    `json:"hdrs"`
		Data    []byte    `json:"data"`
		Time    time.Time `json:"time"`
	} `json:"message"`
}

// leaderNext asks for the pattern's first event from a sequence on. seq is 0
// when there is none up to through, and the event nil when it cannot be read.
//
// Only the leader answers, and a server that has just become it does not before
// it has applied what was there before.
func (f *fetcher) leaderNext(ctx context.Context, id, pattern string, from, through uint64) (e *api.Event, seq uint64, err error) {
	if err := f.reach(ctx, id, through); err != nil {
		return nil, 0, err
	}
	body, err := json.Marshal(directGetOne{Seq: from, NextFor: f.full(pattern)})
	if err != nil {
		return nil, 0, err
	}
	err = f.insist(ctx, func() error {
		m, err := f.request(ctx, "$JS.API.STREAM.MSG.GET."+f.stream.Name, body)
		if err != nil {
			return err
		}
		e, seq, err = f.readLeader(m.Data, id, pattern, from)
		return err
	})
	if seq > through {
		return nil, 0, err
	}
	return e, seq, err
}

type directGetOne struct {
	Seq     uint64 `json:"seq"`
	NextFor string `json:"next_by_subj"`
}

// request sends a request that is answered with one message.
func (f *fetcher) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, leave, err := f.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	m, err := f.b.conn.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, fmt.Errorf("the leader of stream %q did not answer: %w", f.stream.Name, err)
	}
	return m, nil
}

func (f *fetcher) readLeader(data []byte, id, pattern string, from uint64) (*api.Event, uint64, error) {
	var a leaderAnswer
	err := json.Unmarshal(data, &a)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("the leader of stream %q cannot be understood: %w", f.stream.Name, err)
	case a.Error != nil && a.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, 0, nil
	case a.Error != nil:
		err := error(a.Error)
		if a.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound {
			err = jetstream.ErrStreamNotFound
		}
		return nil, 0, f.stream.explain("cannot be read", err)
	case a.Message == nil || a.Message.Seq < from:
		return nil, 0, errors.New("the leader gave no message and no error")
	}
	m := &nats.Msg{Header: nats.Header{}, Data: a.Message.Data}
	if m.Data == nil {
		m.Data = []byte{}
	}
	if len(a.Message.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(a.Message.Header); err != nil {
			f.leaveOut("its headers cannot be read")
			return nil, a.Message.Seq, nil
		}
	}
	// As a direct get would have it.
	for _, own := range [][2]string{
		{"Nats-Stream", f.stream.Name},
		{"Nats-Subject", a.Message.Subject},
		{"Nats-Sequence", strconv.FormatUint(a.Message.Seq, 10)},
		{"Nats-Time-Stamp", a.Message.Time.Format(time.RFC3339Nano)},
		{"Nats-Last-Sequence", "0"},
	} {
		m.Header[own[0]] = append(m.Header[own[0]], own[1])
	}
	e, err := f.event(m, id, []string{pattern})
	return &e, e.Seq, err
}
