package bus

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

var pushStream = StreamConfig{Name: "PUSH", Prefix: "push", RepublishPrefix: "pushed", MaxAge: time.Hour}

// streamBus is a bus with a stream that it may make. Nothing is made yet.
func streamBus(tb testing.TB, url string, change func(*StreamConfig)) (*Bus, *observer.ObservedLogs) {
	tb.Helper()
	cfg := pushStream
	cfg.Create = true
	if change != nil {
		change(&cfg)
	}
	core, logs := observer.New(zap.InfoLevel)
	b, err := New(Config{
		Options: Options{URL: url, Name: "test"}, Log: zap.New(core),
		Prefix: "push", FlashPrefix: "flash", stream: &cfg,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Close)
	if err := b.Start(&sink{}); err != nil {
		tb.Fatal(err)
	}
	eventually(tb, "NATS has taken the subscriptions", b.EverConnected)
	return b, logs
}

// openStream is a bus whose stream is there.
func openStream(tb testing.TB, url string) *Bus {
	tb.Helper()
	b, _ := streamBus(tb, url, nil)
	eventually(tb, "the stream is open", func() bool {
		err := b.stream.open(tb.Context())
		if err != nil {
			tb.Log(err) // of a cluster that finds its leaders
		}
		return err == nil
	})
	return b
}

// warnings are those that tell of the stream, and not of a connection that was slow.
func warnings(logs *observer.ObservedLogs) []observer.LoggedEntry {
	return logs.Filter(func(e observer.LoggedEntry) bool {
		return e.Level == zap.WarnLevel && !strings.HasPrefix(e.Message, "NATS c")
	}).All()
}

func newJetStream(tb testing.TB, url string) jetstream.JetStream {
	tb.Helper()
	return jetStreamOn(tb, connect(tb, url))
}

// jetStreamOn gives every request the time that a slow machine takes.
func jetStreamOn(tb testing.TB, nc *nats.Conn, opts ...jetstream.JetStreamOpt) jetstream.JetStream {
	tb.Helper()
	js, err := jetstream.New(nc, append(opts, jetstream.WithDefaultTimeout(patience))...)
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

func TestStreamAsMade(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	b, logs := streamBus(t, s.ClientURL(), nil)
	for range 2 {
		if err := b.stream.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := logs.FilterMessage("made the stream of events").Len(); n != 1 {
		t.Errorf("it was made %d times", n)
	}
	if n := len(warnings(logs)); n != 0 {
		t.Errorf("what we make ourselves gives %d warnings", n)
	}
	found, err := newJetStream(t, s.ClientURL()).Stream(t.Context(), "PUSH")
	if err != nil {
		t.Fatal(err)
	}
	c := found.CachedInfo().Config
	if len(c.Subjects) != 1 || c.Subjects[0] != "push.>" || *c.RePublish != (jetstream.RePublish{Source: "push.>", Destination: "pushed.>"}) ||
		!c.AllowDirect || !c.AllowMsgTTL || !c.DenyDelete || c.Retention != jetstream.LimitsPolicy || c.Discard != jetstream.DiscardOld ||
		c.Storage != jetstream.FileStorage || c.MaxAge != time.Hour || c.MaxMsgsPerSubject > 0 || c.Replicas != 1 || c.Description == "" {
		t.Errorf("got %+v", c)
	}
}

// Each setting that would lose events is named, with the command to change it,
// and all of them together.
func TestStreamMismatch(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	js := newJetStream(t, s.ClientURL())
	b, logs := streamBus(t, s.ClientURL(), nil)
	republish := "republish is %s and must be push.> to pushed.> with payload: `nats stream edit PUSH --republish-source='push.>' --republish-destination='pushed.>'`"
	for _, tt := range []struct {
		name   string
		change func(*jetstream.StreamConfig)
		want   []string // in order, nothing else
	}{
		{"as it should be", func(*jetstream.StreamConfig) {}, nil},
		{"more subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"orders", "push.>"} }, nil},
		{"fewer subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"push.user.>", "push.*"} },
			[]string{"subjects is push.user.>, push.* and must be one that covers push.>: `nats stream edit PUSH --subjects='push.>'`"}},
		{"no republish", func(c *jetstream.StreamConfig) { c.RePublish = nil }, []string{strings.Replace(republish, "%s", "unset", 1)}},
		{"other source", func(c *jetstream.StreamConfig) { c.RePublish.Source = "push.user.>" },
			[]string{strings.Replace(republish, "%s", "push.user.> to pushed.> with payload", 1)}},
		{"other destination", func(c *jetstream.StreamConfig) { c.RePublish.Destination = "copies.>" },
			[]string{strings.Replace(republish, "%s", "push.> to copies.> with payload", 1)}},
		{"headers only", func(c *jetstream.StreamConfig) { c.RePublish.HeadersOnly = true },
			[]string{strings.Replace(republish, "%s", "push.> to pushed.> with headers only", 1)}},
		{"no direct get", func(c *jetstream.StreamConfig) { c.AllowDirect = false },
			[]string{"allow_direct is false and must be true: `nats stream edit PUSH --allow-direct`"}},
		{"transformed", func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "push.>", Destination: "stored.>"}
		}, []string{"subject_transform is push.> to stored.> and must be unset: `nats stream edit PUSH --no-transform`"}},
		{"bounded by subject", func(c *jetstream.StreamConfig) {
			c.MaxMsgsPerSubject, c.Discard, c.DiscardNewPerSubject = 5, jetstream.DiscardNew, true
		}, []string{
			"max_msgs_per_subject is 5 and must be unset: `nats stream edit PUSH --max-msgs-per-subject=-1`",
			"discard_new_per_subject is true and must be false: `nats stream edit PUSH --discard=old --no-discard-per-subject`",
		}},
		{"rollups", func(c *jetstream.StreamConfig) { c.AllowRollup = true },
			[]string{"allow_rollup_hdrs is true and must be false: `nats stream edit PUSH --no-allow-rollup`"}},
		{"work queue", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
			[]string{"retention is workqueue and must be limits, which cannot be changed: `nats stream rm PUSH`, which deletes what it holds, then `nats stream add PUSH --subjects='push.>' --republish-source='push.>' --republish-destination='pushed.>' --storage=file --retention=limits --discard=old --max-age=1h0m0s --allow-direct --allow-msg-ttl --deny-delete --defaults`"}},
		{"mirror", func(c *jetstream.StreamConfig) {
			c.Subjects, c.Mirror, c.AllowDirect = nil, &jetstream.StreamSource{Name: "OTHER"}, false
		}, []string{"subjects is empty", "allow_direct is false", "mirror is OTHER and must be unset, which cannot be changed: `nats stream rm PUSH`"}},
		{"everything", func(c *jetstream.StreamConfig) { c.RePublish, c.AllowDirect, c.AllowRollup = nil, false, true },
			[]string{"republish is unset", "allow_direct is false", "allow_rollup_hdrs is true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.stream.config(1, nil)
			tt.change(&c)
			if _, err := js.CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := js.DeleteStream(context.Background(), "PUSH"); err != nil {
					t.Error(err)
				}
				awaitCleared(t, s)
			}()
			err := b.stream.open(t.Context())
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var mismatch *StreamError
			if !errors.As(err, &mismatch) || mismatch.Stream != "PUSH" || len(mismatch.Failures) != len(tt.want) {
				t.Fatalf("got %v", err)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(mismatch.Failures[i], want) {
					t.Errorf("failure %d is %q, want %q", i, mismatch.Failures[i], want)
				}
				if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"PUSH"`) {
					t.Errorf("the error does not say all: %v", err)
				}
			}
		})
	}
	if n := len(warnings(logs)); n != 0 {
		t.Errorf("%d warnings", n)
	}
}

// A sealed stream can only be made by an update.
func TestStreamSealed(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	js := newJetStream(t, s.ClientURL())
	b := openStream(t, s.ClientURL())
	c := b.stream.config(1, nil)
	c.Sealed, c.MaxAge = true, 0
	if _, err := js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	err := b.stream.open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "sealed is true and must be false, which cannot be changed: `nats stream rm PUSH`") {
		t.Errorf("got %v", err)
	}
}

func TestStreamWarnings(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	b, logs := streamBus(t, s.ClientURL(), nil)
	c := b.stream.config(1, nil)
	c.DenyDelete, c.MaxAge = false, 0
	if _, err := newJetStream(t, s.ClientURL()).CreateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.stream.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	said := warnings(logs)
	if len(said) != 2 || !strings.Contains(said[0].Message, "`nats stream edit PUSH --deny-delete`") ||
		said[1].Message != "max_age is unlimited, and durable.max_age is 1h0m0s: the stream's counts; `nats stream edit PUSH --max-age=1h0m0s` changes it" {
		t.Errorf("said %v", said)
	}
}

func TestStreamNotThere(t *testing.T) {
	never := func(c *StreamConfig) { c.Create = false }
	t.Run("missing", func(t *testing.T) {
		b, _ := streamBus(t, startJetStream(t, 0, storeDir(t)).ClientURL(), never)
		err := b.stream.open(t.Context())
		if !errors.Is(err, ErrStreamMissing) || !regexp.MustCompile("^stream \"PUSH\" is missing: set durable.create: true, or make it with `nats stream add PUSH .*`").MatchString(err.Error()) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no JetStream", func(t *testing.T) {
		for _, change := range []func(*StreamConfig){never, nil} {
			b, _ := streamBus(t, startNATS(t, 0).ClientURL(), change)
			if err := b.stream.open(t.Context()); !errors.Is(err, ErrNoJetStream) || !strings.Contains(err.Error(), `stream "PUSH"`) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("NATS away", func(t *testing.T) {
		s := startJetStream(t, 0, storeDir(t))
		b, _ := streamBus(t, s.ClientURL(), nil)
		s.Shutdown()
		s.WaitForShutdown()
		eventually(t, "the bus notices", func() bool { return !b.Connected() })
		if err := b.stream.open(t.Context()); !errors.Is(err, errAway) || errors.Is(err, ErrNoJetStream) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("its subjects are taken", func(t *testing.T) {
		s := startJetStream(t, 0, storeDir(t))
		b, _ := streamBus(t, s.ClientURL(), nil)
		if _, err := newJetStream(t, s.ClientURL()).CreateStream(t.Context(), jetstream.StreamConfig{Name: "X", Subjects: []string{"push.a"}}); err != nil {
			t.Fatal(err)
		}
		if err := b.stream.open(t.Context()); !errors.Is(err, ErrStreamRefused) || !strings.Contains(err.Error(), `stream "PUSH" cannot be made: NATS refuses it: X stores subjects of push.> already`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStreamIdentity(t *testing.T) {
	dir := storeDir(t)
	s := startJetStream(t, 0, dir)
	b := openStream(t, s.ClientURL())
	first := identity(t, b)
	if !regexp.MustCompile(`^[a-z0-9]{8}$`).MatchString(first) {
		t.Errorf("the identity is %q", first)
	}
	port := portOf(t, s)
	s.Shutdown()
	s.WaitForShutdown()
	eventually(t, "the bus notices", func() bool { return !b.Connected() })
	s = startJetStream(t, port, dir)
	eventually(t, "the bus comes back", b.Connected)
	if again := identity(t, b); again != first {
		t.Errorf("after a restart it is %s, and was %s", again, first)
	}
	if err := newJetStream(t, s.ClientURL()).DeleteStream(t.Context(), "PUSH"); err != nil {
		t.Fatal(err)
	}
	awaitCleared(t, s)
	if err := b.stream.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := identity(t, b); again == first {
		t.Error("a stream made anew has the same identity")
	}
}

// A stream that is changed while it is used is told once.
func TestStreamIsChanged(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	b, logs := streamBus(t, s.ClientURL(), nil)
	if err := b.stream.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := b.stream.config(1, nil)
	c.RePublish = nil
	if _, err := newJetStream(t, s.ClientURL()).UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := state(t, b); err != nil {
			t.Fatal(err)
		}
	}
	said := warnings(logs)
	if len(said) != 1 || !strings.HasPrefix(said[0].Message, "the stream was changed: republish is unset") {
		t.Errorf("said %v", said)
	}
}

// What waiting does not mend keeps a gateway from ever being ready.
func TestMisconfiguredIsNeverReady(t *testing.T) {
	js := server.Options{JetStream: true}
	denied := server.Options{JetStream: true, Users: []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.INFO.>"}},
	}}}}
	for name, tt := range map[string]struct {
		options server.Options
		want    string
	}{
		"missing": {js, "is missing"},
		"denied":  {denied, "this user may not publish to $JS.API.STREAM.INFO.PUSH"},
		"nowhere": {server.Options{}, "NATS has no JetStream"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.options.StoreDir = storeDir(t)
			s := startServer(t, &tt.options)
			b, err := New(Config{
				Options: Options{URL: s.ClientURL(), User: "u", Password: "p", Name: "test"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash",
				Durable: &Durable{Stream: "PUSH", RepublishPrefix: "pushed", RingBytes: 1 << 20},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			b.sequence.pace.giveUp = time.Hour
			if err := b.Start(&sink{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is known", func() bool { return Misconfigured(b.StreamError()) })
			b.sequence.hopeless()
			if err := b.StreamError(); b.StreamReady() || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ready is %v, %v", b.StreamReady(), err)
			}
		})
	}
}
