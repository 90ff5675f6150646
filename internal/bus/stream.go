package bus

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// StreamConfig says which JetStream stream stores events, and what it is to be
// where this gateway makes it.
type StreamConfig struct {
	Name            string
	Prefix          string        // the root that the stream stores
	RepublishPrefix string        // the root of the copies that gateways listen to
	Create          bool          // make the stream where it is missing
	MaxAge          time.Duration // of an event; 0 for ever
}

// stored is what the stream stores, and where its copies go.
func (c StreamConfig) stored() string { return c.Prefix + ".>" }
func (c StreamConfig) copies() string { return c.RepublishPrefix + ".>" }

// stream is the JetStream stream that stores events.
type stream struct {
	StreamConfig
	b *Bus

	mu     sync.Mutex
	warned map[string]bool // what was said once
}

// streamState is what the stream's leader says of it.
type streamState struct {
	ID                           string // the identity in cursors
	First, Last, Messages, Bytes uint64
	Leader                       string // "" where there is no cluster
	Created                      time.Time
}

var (
	// ErrNoStream says that stored events were asked for, and no stream is
	// configured.
	ErrNoStream = errors.New("no stream is configured: durable.stream names none")
	// ErrNoJetStream says that NATS stores nothing for this user.
	ErrNoJetStream = errors.New("NATS has no JetStream for this user")
	// ErrStreamMissing says that the stream is not there.
	ErrStreamMissing = errors.New("the stream does not exist")
	// ErrStreamRefused says that NATS does not let this user have it.
	ErrStreamRefused = errors.New("NATS refuses it")
)

// Misconfigured reports whether an error about the stream is one that waiting
// does not mend.
func Misconfigured(err error) bool {
	var wrong *StreamError
	return errors.As(err, &wrong) || errors.Is(err, ErrStreamMissing) || errors.Is(err, ErrNoJetStream) || errors.Is(err, ErrStreamRefused)
}

func newStream(b *Bus, c StreamConfig) *stream {
	return &stream{StreamConfig: c, b: b, warned: make(map[string]bool)}
}

// open finds the stream and checks that it can be relied on, after making it
// where it is missing and may be made. A stream that is there and wrong is a
// *StreamError.
func (s *stream) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	info, err := s.ask(ctx)
	if errors.Is(err, ErrStreamMissing) && s.Create {
		if err := s.create(ctx); err != nil {
			return err
		}
		info, err = s.ask(ctx)
	}
	if err != nil {
		return err
	}
	failures, warnings := s.check(info.Config)
	for _, w := range warnings {
		s.warn(w)
	}
	if len(failures) > 0 {
		return &StreamError{Stream: s.Name, Failures: failures}
	}
	if s.Create {
		s.raise(ctx, info.Config)
	}
	return nil
}

// ask asks the leader what the stream is. Its errors are sentences.
func (s *stream) ask(ctx context.Context) (*jetstream.StreamInfo, error) {
	if !s.b.Connected() {
		return nil, fmt.Errorf("stream %q cannot be looked up: %w", s.Name, errAway)
	}
	js, err := jetstream.New(s.b.conn)
	if err != nil {
		return nil, err
	}
	found, err := js.Stream(ctx, s.Name)
	if err == nil {
		return found.CachedInfo(), nil
	}
	return nil, s.explain("cannot be looked up", err)
}

// explain makes a sentence of what JetStream says.
func (s *stream) explain(what string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("stream %q is missing: set durable.create: true, or make it with `%s`: %w", s.Name, s.addCommand(), ErrStreamMissing)
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("stream %q %s: %w", s.Name, what, errClosed)
	case errors.Is(err, nats.ErrNoResponders) && !s.b.Connected():
		return fmt.Errorf("stream %q %s: %w", s.Name, what, errAway)
	case noJetStream(err):
		return fmt.Errorf("stream %q %s: %w: enable JetStream for its account, or unset durable.stream", s.Name, what, ErrNoJetStream)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("stream %q %s: NATS does not answer in time: %w", s.Name, what, err)
	}
	return fmt.Errorf("stream %q %s: %w", s.Name, what, err)
}

// subjectsOverlap is JetStream's error of a stream whose subjects another has.
const subjectsOverlap = 10065

// create makes the stream. That another gateway was quicker is fine.
func (s *stream) create(ctx context.Context) error {
	js, err := jetstream.New(s.b.conn)
	if err != nil {
		return err
	}
	err = s.b.createCopies("events are stored in one copy: NATS cannot give three", jetstream.ErrStreamNameAlreadyInUse,
		func(replicas int, metadata map[string]string) error {
			_, err := js.CreateStream(ctx, s.config(replicas, metadata))
			return err
		})
	var said *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
		return nil
	case errors.As(err, &said) && said.ErrorCode == subjectsOverlap:
		name, err := js.StreamNameBySubject(ctx, s.stored())
		if err != nil {
			name = "another stream"
		}
		return fmt.Errorf("stream %q cannot be made: %w: %s stores subjects of %s already: name that one in durable.stream, or remove it",
			s.Name, ErrStreamRefused, name, s.stored())
	case errors.As(err, &said) && said.Code >= 400 && said.Code < 500:
		return fmt.Errorf("stream %q cannot be made: %w: %s", s.Name, ErrStreamRefused, said.Description)
	case err != nil:
		return s.explain("cannot be made", err)
	}
	s.b.log.Info("made the stream of events", zap.String("stream", s.Name), zap.Duration("max_age", s.MaxAge))
	return nil
}

// config is the stream as we make it.
func (s *stream) config(replicas int, metadata map[string]string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: s.Name, Description: "events that pushgate pushes to clients",
		Subjects:  []string{s.stored()},
		RePublish: &jetstream.RePublish{Source: s.stored(), Destination: s.copies()},
		Storage:   jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: s.MaxAge, MaxMsgsPerSubject: -1,
		AllowDirect: true, AllowMsgTTL: true, DenyDelete: true,
		Replicas: replicas, Metadata: metadata,
	}
}

// addCommand makes the same with NATS's own tool.
func (s *stream) addCommand() string {
	return fmt.Sprintf("nats stream add %s --subjects='%s' --republish-source='%[2]s' --republish-destination='%s'"+
		" --storage=file --retention=limits --discard=old --max-age=%s --allow-direct --allow-msg-ttl --deny-delete --defaults",
		s.Name, s.stored(), s.copies(), flagAge(s.MaxAge))
}

// raise makes a stream as safe as it can be that was made while the cluster was
// still growing.
func (s *stream) raise(ctx context.Context, cfg jetstream.StreamConfig) {
	js, err := jetstream.New(s.b.conn)
	if err == nil && s.b.raiseCopies(ctx, js, cfg) {
		s.b.log.Info("events are stored in three copies now", zap.String("stream", s.Name))
	}
}

// warn logs what is no reason to go without the stream, once.
func (s *stream) warn(text string) {
	s.mu.Lock()
	said := s.warned[text]
	s.warned[text] = true
	s.mu.Unlock()
	if !said {
		s.b.log.Warn(text, zap.String("stream", s.Name))
	}
}

// info asks the leader once.
func (s *stream) info(ctx context.Context) (streamState, error) {
	info, err := s.ask(ctx)
	if err != nil {
		return streamState{}, err
	}
	failures, _ := s.check(info.Config)
	for _, f := range failures { // it was as it should be when it was opened
		s.warn("the stream was changed: " + f)
	}
	st := streamState{
		ID: streamID(s.Name, info.Created), Created: info.Created,
		First: info.State.FirstSeq, Last: info.State.LastSeq, Messages: info.State.Msgs, Bytes: info.State.Bytes,
	}
	if info.Cluster != nil {
		st.Leader = info.Cluster.Leader
	}
	return st, nil
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// streamID is the identity of a stream: one of the same name that is made anew
// has another.
func streamID(name string, created time.Time) string {
	sum := sha256.Sum256([]byte(name + "\x00" + strconv.FormatInt(created.UnixNano(), 10)))
	return idEncoding.EncodeToString(sum[:5])
}
