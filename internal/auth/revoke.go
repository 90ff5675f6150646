package auth

import (
	"sync"
	"sync/atomic"
	"time"
)

// revocations say of a user from when on a token must have been issued. They
// are forgotten when no token from before can be alive any more.
type revocations struct {
	lifetime time.Duration
	now      func() time.Time
	some     atomic.Bool // spares everybody the lock while there are none

	mu     sync.RWMutex
	users  map[string]revocation
	pruned int // how many were left when it was last tidied up
}

type revocation struct {
	before int64 // Unix seconds
	until  int64
}

func (r *revocations) add(user string, before int64) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users == nil {
		r.users = map[string]revocation{}
	}
	// Repeating it must neither lower it nor let it end earlier.
	old := r.users[user]
	until := max(now.Unix(), before) + int64(r.lifetime/time.Second)
	r.users[user] = revocation{max(before, old.before), max(until, old.until)}
	r.some.Store(true)
	if len(r.users) > 2*r.pruned+1024 {
		for u, known := range r.users {
			if known.until < now.Unix() {
				delete(r.users, u)
			}
		}
		r.pruned = len(r.users)
	}
}

func (r *revocations) has(user string, issued int64) bool {
	if !r.some.Load() {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	known, ok := r.users[user]
	return ok && (issued == 0 || issued < known.before) && r.now().Unix() <= known.until
}

func (r *revocations) count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.users)
}

// Revoke refuses from now on the user's tokens that were issued before a Unix
// time, and those that do not say when. It holds as long as such a token could
// live.
func (v *Verifier) Revoke(user string, issuedBefore int64) { v.revoked.add(user, issuedBefore) }

// Revoked reports whether a token of this user, issued then (0: it does not
// say), is refused by now. It takes no time to speak of.
func (v *Verifier) Revoked(user string, issued int64) bool { return v.revoked.has(user, issued) }
