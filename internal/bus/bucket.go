package bus

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	bucketName = "pushgate_revocations"
)

// streamOf is what JetStream calls a bucket.
func streamOf(bucket string) string { return "KV_" + bucket }

// bucketKey is a user as a key: a key takes few characters.
func bucketKey(user string) string { return base64.RawURLEncoding.EncodeToString([]byte(user)) }

// bucketUser is bucketKey's way back.
func bucketUser(key string) (string, error) {
	user, err := base64.RawURLEncoding.Strict().DecodeString(key)
	if err != nil {
		return "", errors.New("the key is not base64url")
	}
	return string(user), checkUser(string(user))
}

// bucketValue is the value of a key. Readers pass over fields that they do not
// know: they are a newer gateway's.
type bucketValue struct {
	IssuedBefore int64 `json:"issued_before"`
}

func (v bucketValue) encode() []byte { return fmt.Appendf(nil, `{"issued_before":%d}`, v.IssuedBefore) }

func decodeValue(data []byte) (bucketValue, error) {
	var v bucketValue
	if json.Unmarshal(data, &v) != nil || v.IssuedBefore <= 0 {
		return v, errors.New("the value has no valid issued_before")
	}
	return v, nil
}

// noJetStream reports whether err says that there is no JetStream here.
func noJetStream(err error) bool {
	return errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) ||
		errors.Is(err, nats.ErrNoResponders)
}

// keyBucket is a key-value bucket that all gateways share, as it should be.
type keyBucket struct {
	b                 *Bus
	name, description string
	what              string // it holds, in the log; plural
	ttl               time.Duration
}

// open returns the bucket and what it is now, after creating it where it is
// missing and raising what is too low for us.
func (k *keyBucket) open(ctx context.Context) (jetstream.KeyValue, *jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	js, err := jetstream.New(k.b.conn)
	if err != nil {
		return nil, nil, err
	}
	stream, err := js.Stream(ctx, streamOf(k.name))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := k.create(ctx, js); err != nil {
			return nil, nil, err
		}
		stream, err = js.Stream(ctx, streamOf(k.name))
	}
	if err != nil {
		return nil, nil, err
	}
	info := stream.CachedInfo()
	k.raise(ctx, js, info.Config)
	bucket, err := js.KeyValue(ctx, k.name)
	return bucket, info, err
}

// create makes the bucket. That another gateway was quicker is fine.
func (k *keyBucket) create(ctx context.Context, js jetstream.JetStream) error {
	err := k.b.createCopies(k.what+" are kept in one copy: NATS cannot give three", jetstream.ErrBucketExists,
		func(replicas int, metadata map[string]string) error {
			_, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
				Bucket: k.name, Description: k.description,
				History: 1, TTL: k.ttl, Storage: jetstream.FileStorage, Replicas: replicas, Metadata: metadata,
			})
			return err
		})
	if errors.Is(err, jetstream.ErrBucketExists) {
		return nil
	}
	return err
}

// raise makes a bucket that another configuration made keep its keys as long as
// ours wants, and one that was made while the cluster was still growing as safe
// as it can be. Failing is no reason to go without the bucket.
func (k *keyBucket) raise(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) {
	log := k.b.log
	if cfg.MaxAge > 0 && cfg.MaxAge < k.ttl {
		old := cfg.MaxAge
		cfg.MaxAge = k.ttl
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			cfg.MaxAge = old
			log.Warn(k.what+" are forgotten too early: the bucket's TTL cannot be raised",
				zap.Duration("ttl", old), zap.Duration("wanted", k.ttl), zap.String("reason", k.b.clean(err)))
		} else {
			log.Info("raised the TTL of the "+k.what, zap.Duration("from", old), zap.Duration("to", k.ttl))
		}
	}
	if k.b.raiseCopies(ctx, js, cfg) {
		log.Info(k.what + " are kept in three copies now")
	}
}

// count is how many keys a bucket holds: of each it keeps one message.
func count(info *jetstream.StreamInfo) int64 { return int64(info.State.Msgs) }

// sameBucket checks that the bucket is still the one that was created then. A
// watcher does not notice a new one of the same name: it waits for a sequence
// that comes late or never. No answer in time tells nothing.
func (r *revocations) sameBucket(ctx context.Context, created time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	js, err := jetstream.New(r.b.conn)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, streamOf(bucketName))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil
	case err != nil:
		return err
	case !stream.CachedInfo().Created.Equal(created):
		return errOther
	}
	r.keys.Store(count(stream.CachedInfo()))
	return nil
}
