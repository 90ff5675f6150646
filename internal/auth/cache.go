package auth

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
)

// cache remembers which tokens had a good signature, by the SHA-256 of the
// whole token. It holds no token, no claim and no identity: those are read
// anew from the token each time, so that exp, nbf, revocation and grants are
// always those of now. What it spares is the signature. Tokens of issuers that
// have only a secret are not for it: a million of them would take more memory
// than it spares time.
//
// It has two generations. When the young one is full it becomes the old one,
// and the old one goes; a token that is met in the old one moves up. So it
// keeps what was used last, in bounded memory, without a list. Only tokens
// that were verified get in: a stranger cannot fill it.
type cache struct {
	limit int // tokens a generation

	mu         sync.Mutex
	young, old map[[sha256.Size]byte]struct{}
}

// cacheEntry is what a token takes in a map without pointers, at worst: its
// hash and its part of the table's free room.
const cacheEntry = 80

func newCache(bytes int) *cache {
	return &cache{limit: bytes / cacheEntry / 2, young: map[[sha256.Size]byte]struct{}{}}
}

func (c *cache) has(sum [sha256.Size]byte) bool {
	if c.limit == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.young[sum]; ok {
		return true
	}
	_, ok := c.old[sum]
	if ok {
		c.put(sum)
	}
	return ok
}

func (c *cache) add(sum [sha256.Size]byte) {
	if c.limit == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(sum)
}

func (c *cache) put(sum [sha256.Size]byte) {
	if len(c.young) >= c.limit {
		c.old, c.young = c.young, make(map[[sha256.Size]byte]struct{})
	}
	c.young[sum] = struct{}{}
}

// cacheStats count look-ups over all caches of a verifier.
type cacheStats struct{ hits, misses atomic.Int64 }

func (s *cacheStats) count(hit bool) {
	if hit {
		s.hits.Add(1)
	} else {
		s.misses.Add(1)
	}
}

// checkSignature looks whether the signature was checked before, and checks it
// if not. An HMAC is always checked: that takes hardly longer than the look.
func (v *Verifier) checkSignature(i *issuer, buf []byte, token string, patient bool) error {
	if i.quick {
		return i.checkSignature(buf, token)
	}
	cache := v.cache.Load()
	sum := sha256.Sum256([]byte(token))
	known := cache.has(sum)
	if !known && !patient {
		return errSlow
	}
	v.lookups.count(known)
	if known {
		return nil
	}
	if err := i.checkSignature(buf, token); err != nil {
		return err
	}
	cache.add(sum)
	return nil
}
