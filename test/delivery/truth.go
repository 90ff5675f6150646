package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"pushgate/test/servers"
)

// truth is what the stream holds.
type truth struct {
	bySubject map[string][]event // without the root, in stream order
	bySeq     map[uint64]uint64  // number by place
}

// readWithin and consumerWithin bound the reading: a cluster that has just got
// a node back may leave a request without an answer.
const (
	readWithin     = 2 * time.Minute
	consumerWithin = 10 * time.Second
)

// read reads the whole stream up to a sequence.
func (s *stage) read(ctx context.Context, last uint64) (t *truth, err error) {
	late := servers.Eventually(ctx, readWithin, "the stream can be read", func(ctx context.Context) bool {
		if t, err = s.readOnce(ctx, last); err != nil {
			progress("%v", err)
		}
		return err == nil
	})
	if late != nil {
		return nil, errors.Join(late, err)
	}
	return t, nil
}

func (s *stage) readOnce(ctx context.Context, last uint64) (*truth, error) {
	t := &truth{bySubject: map[string][]event{}, bySeq: map[uint64]uint64{}}
	if last == 0 {
		return t, nil
	}
	making, cancel := context.WithTimeout(ctx, consumerWithin)
	defer cancel()
	consumer, err := s.js.OrderedConsumer(making, streamName, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, fmt.Errorf("reading the stream: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextMaxWait(10 * time.Second))
		if err != nil {
			return nil, fmt.Errorf("reading the stream: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		var p payload
		if err := json.Unmarshal(m.Data(), &p); err != nil {
			return nil, fmt.Errorf("the stored event %d: %w", meta.Sequence.Stream, err)
		}
		subject, e := strings.TrimPrefix(m.Subject(), "push."), event{meta.Sequence.Stream, p.N}
		t.bySubject[subject] = append(t.bySubject[subject], e)
		t.bySeq[e.seq] = e.n
		if e.seq >= last {
			return t, nil
		}
	}
}

// wants is what a user should get behind a place, in stream order.
func (t *truth) wants(user string, after uint64) (want []event) {
	for _, subject := range []string{"user." + user, "broadcast"} {
		for _, e := range t.bySubject[subject] {
			if e.seq > after {
				want = append(want, e)
			}
		}
	}
	slices.SortFunc(want, func(a, b event) int { return int(a.seq) - int(b.seq) })
	return want
}
