package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"pushgate/test/servers"
)

// loss is a step on the way to lost history.
type loss = func(context.Context, *stage, *visit) error

// then does one after the other.
func then(steps ...loss) loss {
	return func(ctx context.Context, s *stage, v *visit) error {
		for _, step := range steps {
			if err := step(ctx, s, v); err != nil {
				return err
			}
		}
		return nil
	}
}

// missed publishes events, every other one the client's: more than the ring
// holds, so that only the stream has the oldest.
func missed(ctx context.Context, s *stage, v *visit) error {
	for range v.events {
		n := v.first
		v.first++
		subject := "push.nobody"
		if n%2 == 0 {
			subject = "push.user." + v.user
			v.published = append(v.published, n)
		}
		if err := s.store(ctx, subject, n, 1024); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
	return nil
}

// limit changes what the stream keeps.
func limit(change func(*jetstream.StreamConfig)) loss {
	return func(ctx context.Context, s *stage, _ *visit) error {
		info, err := s.awaitInfo(ctx)
		if err != nil {
			return err
		}
		change(&info.Config)
		_, err = s.js.UpdateStream(ctx, info.Config)
		return err
	}
}

// emptied waits until nothing is left.
func emptied(ctx context.Context, s *stage, _ *visit) error {
	return servers.Eventually(ctx, servers.StartWithin, "the stream is empty", func(ctx context.Context) bool {
		info, err := s.info(ctx)
		return err == nil && info.State.Msgs == 0
	})
}

func purged(ctx context.Context, s *stage, _ *visit) error {
	stream, err := s.js.Stream(ctx, streamName)
	if err != nil {
		return err
	}
	return stream.Purge(ctx)
}

// purgedHalf takes the older half.
func purgedHalf(ctx context.Context, s *stage, v *visit) error {
	stream, err := s.js.Stream(ctx, streamName)
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSequence(stream.CachedInfo().State.LastSeq-uint64(v.events)/2))
}

// anew deletes the stream and makes one of the same name.
func anew(ctx context.Context, s *stage, _ *visit) error {
	info, err := s.awaitInfo(ctx)
	if err != nil {
		return err
	}
	if err := s.js.DeleteStream(ctx, streamName); err != nil {
		return err
	}
	// The server removes the files of the old one behind its answer, and fails
	// to make the new one meanwhile.
	var failed error
	if err := servers.Eventually(ctx, servers.StartWithin, "the stream is made anew", func(ctx context.Context) bool {
		_, failed = s.js.CreateStream(ctx, info.Config)
		return failed == nil
	}); err != nil {
		return errors.Join(err, failed)
	}
	return nil
}
