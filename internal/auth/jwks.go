package auth

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
)

// ErrNoKeys is a token whose issuer's keys could not be fetched yet: nothing
// can be said about it.
var ErrNoKeys = errors.New("the issuer's keys have not been fetched yet")

var fetchTimeout = 5 * time.Second // of one key set; tests are more patient

const (
	maxKeySet = 1 << 20 // bytes of a key set
	maxKeys   = 100     // keys of one

	defaultInterval = 10 * time.Second
	defaultRefresh  = 5 * time.Minute
)

// KeyNotice is what became of a fetch of keys.
type KeyNotice struct {
	Issuer string // its name, or iss, or URL: the first that there is
	Keys   int    // in force from now on, 0 with Err
	Err    error  // why the keys from before stay
}

// source fetches an issuer's keys (RFC 7517): at the start, every refresh, and
// for an unknown kid, at most one of those an interval whatever comes. Who
// meets an unknown kid may wait for the fetch or not; the source waits for
// nobody.
type source struct {
	url      string
	label    string
	interval time.Duration
	refresh  time.Duration
	client   *http.Client
	named    []string // the only algorithms; empty: each key's own
	use      func(*ring)
	notice   func(KeyNotice)
	wanted   chan struct{} // of one

	fetches, failures atomic.Int64

	mu      sync.Mutex
	last    time.Time     // when a fetch for an unknown kid was last asked for
	fetched chan struct{} // closed when the fetch that is under way, or asked for, is done
	failure error         // of the last fetch, nil: it went well
	print   string        // of the keys in force
}

func (v *Verifier) newSource(i *issuer, url string, o *Options) *source {
	s := &source{
		url: url, label: i.name, named: i.algorithms,
		interval: o.JWKSInterval, refresh: o.JWKSRefresh,
		client: safeClient(),
		use:    func(r *ring) { v.setRing(i, r) },
		notice: o.Notice, wanted: make(chan struct{}, 1),
		failure: ErrNoKeys,
	}
	for _, label := range []string{i.iss, url} {
		if s.label == "" {
			s.label = label
		}
	}
	if s.interval <= 0 {
		s.interval = defaultInterval
	}
	if s.refresh <= 0 {
		s.refresh = defaultRefresh
	}
	if s.notice == nil {
		s.notice = func(KeyNotice) {}
	}
	return s
}

// CheckJWKSURL reports what is wrong with the URL of a key set: it must be
// https, so that nobody can put in keys of his own on the way, or this
// machine's.
func CheckJWKSURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("the JWKS URL is not a URL like https://id.example.com/.well-known/jwks.json")
	}
	if u.User != nil {
		return errors.New("the JWKS URL holds a login: keys are public, none is needed")
	}
	addr, err := netip.ParseAddr(u.Hostname())
	local := u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
	if u.Scheme != "https" && !local {
		return errors.New("the JWKS URL must be https: on the way of http anybody could put in keys of his own")
	}
	return nil
}

// safeClient follows no redirects, keeps no connection and reads no more than
// a key set can need.
func safeClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	return &http.Client{
		Transport: bounded{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it redirects, which is not followed")
		},
	}
}

// bounded ends a body that is too long with an error.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxKeySet)
	}
	return resp, err
}

// FetchKeys fetches the keys of all issuers that publish them, and goes on
// doing so until ctx ends. It returns at once where there are none.
func (v *Verifier) FetchKeys(ctx context.Context) {
	var running sync.WaitGroup
	for _, i := range v.issuers {
		if i.source != nil {
			running.Go(func() { i.source.run(ctx) })
		}
	}
	running.Wait()
}

// Ready says why tokens of some issuer cannot be verified, nil when all can.
func (v *Verifier) Ready() error {
	for _, i := range v.issuers {
		if i.ring.Load() == nil {
			i.source.mu.Lock()
			defer i.source.mu.Unlock()
			return fmt.Errorf("no keys of %s: %w", i.source.label, i.source.failure)
		}
	}
	return nil
}

// want is called for an unknown kid. It returns what is closed when keys have
// been fetched anew, nil when none are going to be.
func (s *source) want() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetched != nil {
		return s.fetched
	}
	if !s.last.IsZero() && time.Since(s.last) < s.interval {
		return nil
	}
	s.last = time.Now()
	s.fetched = make(chan struct{})
	s.wanted <- struct{}{} // there is room: one is asked for at a time
	return s.fetched
}

func (s *source) run(ctx context.Context) {
	failures := 0
	for {
		err := s.fetchOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := s.refresh - rand.N(s.refresh/10+1)
		if err != nil {
			// Sooner, but more and more slowly.
			pause = min(s.refresh, time.Second<<min(failures, 6))
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.wanted:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// fetchOnce fetches and puts what it got in force. Who waits for it is told.
func (s *source) fetchOnce(ctx context.Context) error {
	s.mu.Lock()
	if s.fetched == nil {
		s.fetched = make(chan struct{})
	}
	s.mu.Unlock()
	r, print, err := s.fetch(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	s.fetches.Add(1)
	keys := 0
	if err != nil {
		s.failures.Add(1)
	} else {
		keys = r.fetched
	}
	s.mu.Lock()
	fresh := err == nil && print != s.print
	s.failure = err
	if fresh {
		s.print = print
	}
	s.mu.Unlock()
	if fresh {
		s.use(r)
	}
	s.mu.Lock()
	select {
	case <-s.wanted: // asked for while this one was under way
	default:
	}
	close(s.fetched)
	s.fetched = nil
	s.mu.Unlock()
	if fresh || err != nil && ctx.Err() == nil {
		s.notice(KeyNotice{Issuer: s.label, Keys: keys, Err: err})
	}
	return err
}

// fetch gets the key set and makes a ring of it. print is the same for the same
// keys.
func (s *source) fetch(ctx context.Context) (r *ring, print string, err error) {
	// What keyfunc would do from now on ends with this context: when to fetch
	// is decided here.
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	set, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{s.url}, keyfunc.Override{
		Client: s.client, HTTPTimeout: fetchTimeout, NoErrorReturnFirstHTTPReq: new(bool),
	})
	if err != nil {
		return nil, "", plainer(err)
	}
	keys, err := set.Storage().KeyReadAll(ctx)
	if err != nil {
		return nil, "", err
	}
	if len(keys) > maxKeys {
		return nil, "", fmt.Errorf("the key set has %d keys, but may have at most %d", len(keys), maxKeys)
	}
	r = &ring{all: suites{}, named: map[string]suites{}}
	var prints []string
	for _, k := range keys {
		if p, ok := r.addFetched(k, s.named); ok {
			prints = append(prints, p)
		}
	}
	if len(prints) == 0 {
		return nil, "", errors.New("the key set has no public key that tokens may be signed with")
	}
	slices.Sort(prints)
	r.fetched = len(prints)
	return r, strings.Join(prints, "\n"), nil
}

// plainer takes the library's own story of what it was doing off an error.
func plainer(err error) error {
	var get *url.Error
	switch {
	case errors.As(err, &get):
		return get.Err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the key set ends too early")
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	const story = "HTTP request for JWK Set: "
	if _, cause, ok := strings.Cut(line, story); ok {
		line = cause
	}
	return errors.New(line)
}

// addFetched takes a key of a key set, if tokens may be verified with it: a
// public one, for signatures, that fits the algorithms.
func (r *ring) addFetched(k jwkset.JWK, named []string) (print string, ok bool) {
	m := k.Marshal()
	if m.USE == jwkset.UseEnc || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) || len(m.KID) > maxKeyID {
		return "", false
	}
	key := k.Key()
	if private, ok := key.(crypto.Signer); ok {
		key = private.Public()
	}
	// A secret in a public place is nobody's secret.
	if _, secret := key.([]byte); secret {
		return "", false
	}
	own, _, _, err := uses(key)
	if err != nil {
		return "", false
	}
	if alg := m.ALG.String(); alg != "" {
		if len(named) == 0 && alg != own || len(named) > 0 && !slices.Contains(named, alg) {
			return "", false
		}
		named = []string{alg}
	}
	one := suites{}
	if one.add(key, named) != nil || r.all.add(key, named) != nil {
		return "", false
	}
	if m.KID != "" {
		// Two keys of one name: both are tried.
		if both := r.named[m.KID]; both == nil {
			r.named[m.KID] = one
		} else if both.add(key, named) != nil {
			return "", false
		}
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	return fmt.Sprintf("%q %v %x", m.KID, named, der), err == nil
}
