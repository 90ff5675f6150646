package auth

// Stats is a reading of a verifier's figures.
type Stats struct {
	CacheHits, CacheMisses int64 // tokens that were in the cache of verified ones, or not
	Fetches, FetchesFailed int64 // of key sets; the failed ones count in both
	FetchedKeys            int   // in force
	Revoked                int   // users with a revocation in force
}

// Stats reads the figures; they need not be of one moment.
func (v *Verifier) Stats() Stats {
	st := Stats{CacheHits: v.lookups.hits.Load(), CacheMisses: v.lookups.misses.Load(), Revoked: v.revoked.count()}
	for _, i := range v.issuers {
		if i.source == nil {
			continue
		}
		st.Fetches += i.source.fetches.Load()
		st.FetchesFailed += i.source.failures.Load()
		if r := i.ring.Load(); r != nil {
			st.FetchedKeys += r.fetched
		}
	}
	return st
}
