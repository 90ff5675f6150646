package bus

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

func TestStoredTimeOnlyGrows(t *testing.T) {
	s := startJetStream(t, 0, storeDir(t))
	url := s.ClientURL()
	openGateway(t, url, "a", nil)
	openGateway(t, url, "b", nil)
	_, bucket := openBucket(t, url)
	stored := func(user string) (int64, uint64) {
		t.Helper()
		entry, err := bucket.Get(t.Context(), bucketKey(user))
		if err != nil {
			t.Fatal(err)
		}
		v, err := decodeValue(entry.Value())
		if err != nil {
			t.Fatal(err)
		}
		return v.IssuedBefore, entry.Revision()
	}
	revoke(t, url, "alice", 2000, 2)
	_, revision := stored("alice")
	revoke(t, url, "alice", 1000, 2)
	if at, r := stored("alice"); at != 2000 || r != revision {
		t.Errorf("%d is stored, in revision %d after %d", at, r, revision)
	}
	revoke(t, url, "alice", 3000, 2)
	if at, r := stored("alice"); at != 3000 || r != revision+1 {
		t.Errorf("%d is stored, in revision %d: one gateway should have written", at, r)
	}
	// Many at once, through both gateways: conflicts, and the latest wins.
	nc := connect(t, url)
	var asked []*nats.Subscription
	for n := range 20 {
		asked = append(asked, begin(t, nc, "revoke", fmt.Sprintf(`{"user":"bob","issued_before":%d}`, 1000+n*7%20)))
	}
	for _, sub := range asked {
		for name, r := range replies(t, sub, 2) {
			if !*r.Stored {
				t.Errorf("%s answers %+v", name, r)
			}
		}
	}
	if at, _ := stored("bob"); at != 1019 {
		t.Errorf("%d is stored, want 1019", at)
	}
	// What nobody can read is replaced; what was deleted can come again.
	if _, err := bucket.Put(t.Context(), bucketKey("carol"), []byte("junk")); err != nil {
		t.Fatal(err)
	}
	revoke(t, url, "carol", 5, 2)
	if err := bucket.Delete(t.Context(), bucketKey("carol")); err != nil {
		t.Fatal(err)
	}
	revoke(t, url, "carol", 4, 2)
	if at, _ := stored("carol"); at != 4 {
		t.Errorf("%d is stored, want 4", at)
	}
}

func TestQueueIsBounded(t *testing.T) {
	b, err := New(Config{Options: Options{URL: "nats://127.0.0.1:1"}, Log: zap.NewNop(), Prefix: "push", FlashPrefix: "flash"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRevocations(b, Control{Sessions: &recorder{}, RevocationTTL: time.Hour})
	var answers []error
	for range maxKeeping + 1 { // nobody takes from the queue yet
		r.keep("alice", 1, func(err error) { answers = append(answers, err) })
	}
	if len(answers) != 1 || answers[0] == nil {
		t.Errorf("got %v", answers)
	}
	r.cancel()
}
