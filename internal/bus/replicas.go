package bus

import (
	"context"
	"errors"
	"maps"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	// fallbackMark is the key in a stream's metadata that says that it has one
	// replica because more could not be had, and not by somebody's choice.
	fallbackMark = "pushgate_fallback_replicas"

	wantReplicas = 3
)

func (b *Bus) clustered() bool { return b.conn.ConnectedClusterName() != "" }

// createCopies creates something in three copies where NATS is a cluster, and
// in one, with a warning, where it cannot give three. create gets the number
// and the metadata to create with; taken is its error for what exists already.
func (b *Bus) createCopies(warning string, taken error, create func(replicas int, metadata map[string]string) error) error {
	replicas := 1
	if b.clustered() {
		replicas = wantReplicas
	}
	err := create(replicas, nil)
	var refused *jetstream.APIError
	// 503 is a cluster that is not up yet: later it may.
	if replicas > 1 && errors.As(err, &refused) && refused.Code != 503 && !errors.Is(err, taken) {
		b.log.Warn(warning, zap.String("reason", refused.Description))
		err = create(1, map[string]string{fallbackMark: "1"})
	}
	return err
}

// raiseCopies gives three copies to a stream that was made with one because the
// cluster was still growing. It tells whether that is done; failing is no reason
// to go without the stream.
func (b *Bus) raiseCopies(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) bool {
	if cfg.Metadata[fallbackMark] == "" || !b.clustered() {
		return false
	}
	cfg.Replicas = wantReplicas
	cfg.Metadata = maps.Clone(cfg.Metadata)
	delete(cfg.Metadata, fallbackMark)
	_, err := js.UpdateStream(ctx, cfg)
	return err == nil
}
