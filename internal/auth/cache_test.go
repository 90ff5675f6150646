package auth

import (
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestCacheHonoursTimeAndKeys(t *testing.T) {
	now := noon
	keys := testKeys()["P-256"]
	v := newVerifier(t, keyed("P-256"), func(o *Options) { o.CacheBytes = 1 << 20; o.Now = func() time.Time { return now } })
	token := signWith(t, "P-256", "ES256", 0)
	for range 3 {
		if got := reasonOf(v, token); got != "good" {
			t.Fatal(got)
		}
	}
	if st := v.Stats(); st.CacheHits != 2 || st.CacheMisses != 1 {
		t.Errorf("%d hits and %d misses", st.CacheHits, st.CacheMisses)
	}
	// Not one bit of it may differ.
	if got := reasonOf(v, token[:len(token)-8]+"AAAAAAAA"); got != "bad_signature" {
		t.Errorf("another signature: %s", got)
	}
	now = noon.Add(time.Hour + 29*time.Second)
	if got := reasonOf(v, token); got != "good" {
		t.Errorf("within the leeway: %s", got)
	}
	now = now.Add(time.Second)
	if got := reasonOf(v, token); got != "expired" {
		t.Errorf("when it has expired: %s", got)
	}
	now = noon
	if err := v.SetPublicKeys(0, []crypto.PublicKey{keys[1].Public()}); err != nil {
		t.Fatal(err)
	}
	if got := reasonOf(v, token); got != "bad_signature" {
		t.Errorf("after its key was taken away: %s", got)
	}
	if err := v.SetPublicKeys(0, []crypto.PublicKey{keys[0].Public()}); err != nil {
		t.Fatal(err)
	}
	misses := v.Stats().CacheMisses
	if got := reasonOf(v, token); got != "good" || v.Stats().CacheMisses != misses+1 {
		t.Errorf("after its key came back: %s, %d misses", got, v.Stats().CacheMisses-misses)
	}
}

// TestCacheIsForSignatures: an HMAC is verified each time, and takes no memory.
func TestCacheIsForSignatures(t *testing.T) {
	v := newVerifier(t, func(o *Options) { o.CacheBytes = 1 << 20 })
	token := mint(t, claimsWith(nil))
	for range 2 {
		if got := reasonOf(v, token); got != "good" {
			t.Fatal(got)
		}
	}
	if st := v.Stats(); st.CacheHits != 0 || st.CacheMisses != 0 || len(v.cache.Load().young) != 0 {
		t.Errorf("%d hits, %d misses, %d are kept", st.CacheHits, st.CacheMisses, len(v.cache.Load().young))
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newCache(2 * cacheEntry * 1000)
	sum := func(i int) (s [sha256.Size]byte) {
		binary.BigEndian.PutUint64(s[:], uint64(i))
		return s
	}
	for i := range 5000 {
		c.add(sum(i))
		if !c.has(sum(0)) {
			t.Fatalf("what is always used was forgotten after %d others", i)
		}
	}
	if c.has(sum(100)) || !c.has(sum(4999)) || !c.has(sum(4500)) {
		t.Error("the wrong ones are kept")
	}
	if n := len(c.young) + len(c.old); n > 2000 {
		t.Errorf("%d are kept", n)
	}
	none := newCache(0)
	none.add(sum(1))
	if none.has(sum(1)) {
		t.Error("a cache of no size keeps something")
	}
}

// TestCacheSize fills a cache to its bound, and looks at what it really takes.
func TestCacheSize(t *testing.T) {
	const bytes = 8 << 20
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	c := newCache(bytes)
	for i := range 4 * c.limit {
		c.add(sha256.Sum256(fmt.Append(nil, i)))
	}
	if n := live() - before; n > bytes*11/10 {
		t.Errorf("it takes %d bytes", n)
	}
	runtime.KeepAlive(c)
}

// TestVerifyNow: what takes its time, or is not good, is for Verify.
func TestVerifyNow(t *testing.T) {
	hmac := newVerifier(t)
	slow := newVerifier(t, keyed("P-256"), func(o *Options) { o.CacheBytes = 1 << 20 })
	good, costly := mint(t, claimsWith(nil)), signWith(t, "P-256", "ES256", 0)
	now := func(v *Verifier, token string) bool {
		id, ok := v.VerifyNow(token)
		if want, err := v.Verify(token); ok && (err != nil || id.User != want.User || id.Expires != want.Expires || len(id.Subjects) != len(want.Subjects)) {
			t.Errorf("at once it is %+v, and else %+v, %v", id, want, err)
		}
		return ok
	}
	if !now(hmac, good) {
		t.Error("an HMAC takes its time")
	}
	if now(slow, costly) {
		t.Error("a signature was checked at once")
	}
	if !now(slow, costly) {
		t.Error("a known signature takes its time")
	}
	if st := slow.Stats(); st.CacheHits != 2 || st.CacheMisses != 1 {
		t.Errorf("%d hits and %d misses", st.CacheHits, st.CacheMisses)
	}
	for name, token := range map[string]string{
		"empty": "", "another secret's": good[:len(good)-4] + "AAAA", "expired": mint(t, claimsWith(map[string]any{"exp": in(-time.Hour)})),
		"long": mint(t, claimsWith(map[string]any{"pad": strings.Repeat("x", quickToken)})),
		"RSA":  signWith(t, "RSA", "RS256", 0), "nobody's": mint(t, map[string]any{"exp": in(time.Hour)}),
	} {
		if now(hmac, token) {
			t.Errorf("%s: good", name)
		}
	}
	hmac.Revoke("alice", in(time.Minute))
	if now(hmac, good) {
		t.Error("a revoked token is good")
	}
}
