package auth

import (
	"fmt"
	"testing"
	"time"
)

func TestRevoke(t *testing.T) {
	now := noon
	v := newVerifier(t, func(o *Options) { o.CacheBytes = 1 << 20; o.Now = func() time.Time { return now } })
	old := mint(t, map[string]any{"sub": "alice", "iat": in(-time.Minute), "exp": in(time.Hour)})
	young := mint(t, map[string]any{"sub": "alice", "iat": in(0), "exp": in(time.Hour)})
	ageless := mint(t, map[string]any{"sub": "alice", "exp": in(time.Hour)})
	bob := mint(t, map[string]any{"sub": "bob", "iat": in(-time.Minute), "exp": in(time.Hour)})
	check := func(when, wantOld, wantYoung, wantAgeless string) {
		t.Helper()
		if a, b, c, d := reasonOf(v, old), reasonOf(v, young), reasonOf(v, ageless), reasonOf(v, bob); a != wantOld || b != wantYoung || c != wantAgeless || d != "good" {
			t.Errorf("%s: old %s, young %s, without iat %s, of bob %s", when, a, b, c, d)
		}
	}
	check("at first", "good", "good", "good")
	v.Revoke("alice", in(0))
	// All three stand in the cache: it honours what came later.
	check("revoked", "revoked", "good", "revoked")
	v.Revoke("alice", in(-time.Hour))
	check("revoked from an earlier time on", "revoked", "good", "revoked")
	v.Revoke("alice", in(1*time.Second))
	check("revoked once more", "revoked", "revoked", "revoked")
	if v.Stats().Revoked != 1 {
		t.Errorf("%d users are revoked", v.Stats().Revoked)
	}
	// A token from before cannot be alive when the revocation is forgotten.
	now = noon.Add(24*time.Hour + time.Minute + time.Second)
	if !v.Revoked("alice", in(0)) {
		t.Error("it is forgotten too early")
	}
	now = now.Add(time.Second)
	if v.Revoked("alice", in(0)) {
		t.Error("it is never forgotten")
	}
}

func TestRevocationsAreTidiedUp(t *testing.T) {
	now := noon
	v := newVerifier(t, func(o *Options) { o.Now = func() time.Time { return now } })
	for i := range 3000 {
		v.Revoke(fmt.Sprint("early", i), in(0))
	}
	now = now.Add(48 * time.Hour)
	for i := range 6000 {
		v.Revoke(fmt.Sprint("late", i), in(0))
	}
	if n := v.Stats().Revoked; n != 6000 {
		t.Errorf("%d are kept", n)
	}
	if !v.Revoked("late5", in(-time.Second)) || v.Revoked("early5", in(-time.Second)) {
		t.Error("the wrong ones are kept")
	}
}
