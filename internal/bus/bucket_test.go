package bus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestBucketAsMade(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	var racing []*gateway
	for n := range 4 {
		racing = append(racing, newGateway(t, s.ClientURL(), fmt.Sprint(n), nil))
	}
	for _, g := range racing {
		eventually(t, "the bucket is watched", func() bool { return g.Stats().RevocationsStored })
		if g.logged("revocations cannot be read") != 0 {
			t.Error("who comes second complains")
		}
	}
	_, bucket := openBucket(t, s.ClientURL())
	status, err := bucket.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg := status.Config()
	if cfg.TTL != time.Hour || cfg.History != 1 || cfg.Storage != jetstream.FileStorage || cfg.Replicas != 1 {
		t.Errorf("got %+v", cfg)
	}
}

func TestBucketTTL(t *testing.T) {
	for _, tt := range []struct{ before, after time.Duration }{
		{time.Minute, time.Hour},
		{2 * time.Hour, 2 * time.Hour},
		{0, 0}, // for ever
	} {
		t.Run(tt.before.String(), func(t *testing.T) {
			s := startJetStream(t, 0, storeDir(t))
			js := newJetStream(t, s.ClientURL())
			bucket, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucketName, TTL: tt.before})
			if err != nil {
				t.Fatal(err)
			}
			put(t, bucket, "alice", 5)
			openGateway(t, s.ClientURL(), "a", nil).awaitRevoked(t, "alice", 5)
			status, err := bucket.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if status.TTL() != tt.after {
				t.Errorf("the TTL is %s, want %s", status.TTL(), tt.after)
			}
		})
	}
}

func TestMalformedRevocations(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	g := openGateway(t, s.ClientURL(), "a", nil)
	_, bucket := openBucket(t, s.ClientURL())
	// Each has a key of its own: the bucket keeps the last of a key only.
	for _, kv := range [][2]string{
		{"no.base64", `{"issued_before":1}`},
		{bucketKey(strings.Repeat("x", 256)), `{"issued_before":1}`},
		{bucketKey("a"), `1`},
		{bucketKey("b"), `{"issued_before":"1"}`},
		{bucketKey("c"), `{}`},
		{bucketKey("d"), `{"issued_before":-1}`},
	} {
		if _, err := bucket.Put(t.Context(), kv[0], []byte(kv[1])); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are logged as malformed", func() bool { return g.logged("a stored revocation is malformed") == 6 })
	if err := bucket.Delete(t.Context(), bucketKey("a")); err != nil {
		t.Fatal(err)
	}
	put(t, bucket, "last", 9)
	g.awaitRevoked(t, "last", 9)
	if n := g.logged("a stored revocation is malformed"); n != 6 {
		t.Errorf("%d are logged as malformed after a deletion", n)
	}
	for _, user := range []string{"a", "b", "c", "d"} {
		if g.sessions.before(user) != 0 {
			t.Errorf("the malformed revocation of %s has an effect", user)
		}
	}
}
