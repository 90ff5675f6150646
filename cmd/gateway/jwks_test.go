package main

import (
	"crypto/ecdsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// keyServer publishes a key set that can be changed, and counts who reads it.
type keyServer struct {
	*httptest.Server
	body     atomic.Pointer[string] // nil: it hangs up
	requests atomic.Int64
}

func serveKeys(t testing.TB, keys ...string) *keyServer {
	s := &keyServer{}
	if len(keys) > 0 {
		s.publish(keys...)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.requests.Add(1)
		body := s.body.Load()
		if body == nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = fmt.Fprint(w, *body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) publish(keys ...string) { s.say(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

func (s *keyServer) say(body string) { s.body.Store(&body) }

func (s *keyServer) hangUp() { s.body.Store(nil) }

// startFetching runs a gateway whose one issuer publishes its keys.
func startFetching(t *testing.T, keys *keyServer, s setup, settings ...string) *running {
	t.Helper()
	return s.start(t, append([]string{"GATEWAY_AUTH_HS256_SECRET=", "GATEWAY_AUTH_JWKS_URL=" + keys.URL}, settings...)...)
}

func keyToken(t *testing.T, key *ecdsa.PrivateKey, kid string, changes ...string) string {
	t.Helper()
	return forge(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, kid), payload(changes...), es256(t, key))
}

// handshake is what a handshake with the token gets.
func (r *running) handshake(t *testing.T, token string) int {
	t.Helper()
	return ask(t, r.addr, wsRequest("/v1/ws", bearerLine(token))).status
}

const in, out = http.StatusSwitchingProtocols, http.StatusUnauthorized

func TestKeysRotate(t *testing.T) {
	k1, k3 := newEC(t), newEC(t)
	first, third := jwk(t, &k1.PublicKey, "k1"), jwk(t, &k3.PublicKey, "k3")
	keys := serveKeys(t, first)
	g := startFetching(t, keys, setup{}, "GATEWAY_AUTH_JWKS_INTERVAL=100ms", "GATEWAY_AUTH_JWKS_REFRESH=1h")
	old, _ := g.dial(keyToken(t, k1, "k1"), "")

	// An announced key is there when its first token comes: that one waits for
	// the fetch, and is not refused. A fetch may be later than it waits, and no
	// second one comes within the interval: then the next key's first token shows
	// it.
	var k2 *ecdsa.PrivateKey
	var second, name2 string
	n := 1
	eventually(t, "a key is there when its first token comes", func() bool {
		n++
		k2, name2 = newEC(t), fmt.Sprint("second", n)
		second = jwk(t, &k2.PublicKey, name2)
		keys.publish(first, second)
		return g.handshake(t, keyToken(t, k2, name2)) == in
	})
	if got := g.handshake(t, keyToken(t, k1, "k1")); got != in {
		t.Errorf("with both keys the first one's token gets %d", got)
	}
	// The old key goes with the next fetch; sessions that it let in stay, and
	// the cache of verified tokens does not outlive it.
	oldToken := keyToken(t, k1, "k1")
	if got := g.handshake(t, oldToken); got != in {
		t.Errorf("before: %d", got)
	}
	keys.publish(second, third)
	eventually(t, "the third key is fetched", func() bool { return g.handshake(t, keyToken(t, k3, "k3")) == in })
	for range 2 {
		if got := g.handshake(t, oldToken); got != out {
			t.Errorf("the old key's token gets %d", got)
		}
	}
	old.settled()
	old.say("renew", "ref", "r", "token", oldToken)
	old.expect(`{"type":"error","ref":"r","code":"forbidden","message":"The token is signed with a key that is not known here."}`)
	old.say("renew", "ref", "r", "token", keyToken(t, k3, "k3"))
	if m := old.next(); m["type"] != "renewed" {
		t.Errorf("the new key's token gives %v", m)
	}
	// A key under another's name is no rotation.
	if got := g.handshake(t, keyToken(t, k1, name2)); got != out {
		t.Errorf("a foreign key under a known name gets %d", got)
	}
}

// TestKeysAreFetchedAnyhow has keys go without anybody asking for new ones, and
// a server that fails later: what was there stays.
func TestKeysAreFetchedAnyhow(t *testing.T) {
	t.Parallel()
	k1, k2 := newEC(t), newEC(t)
	keys := serveKeys(t, jwk(t, &k1.PublicKey, "k1"))
	g := startFetching(t, keys, setup{}, "GATEWAY_AUTH_JWKS_REFRESH=1s")
	if got := g.handshake(t, keyToken(t, k1, "k1")); got != in {
		t.Fatalf("at first: %d", got)
	}
	keys.publish(jwk(t, &k2.PublicKey, "k2"))
	eventually(t, "the first key is gone", func() bool { return g.handshake(t, keyToken(t, k1, "k1")) == out })
	for name, spoil := range map[string]func(){
		"hangs up": keys.hangUp, "talks nonsense": func() { keys.say("<html>") }, "has no keys": func() { keys.publish() },
	} {
		failed := func() int { return counters(g.page(g.admin.addr, "/metrics"), "pushgate_key_fetches_total")["failed"] }
		before := failed()
		spoil()
		eventually(t, "a fetch has failed: the server "+name, func() bool { return failed() > before })
		if got := g.handshake(t, keyToken(t, k2, "k2")); got != in || g.status("/readyz") != http.StatusOK {
			t.Errorf("when the server %s: %d", name, got)
		}
	}
	keys.publish(jwk(t, &k1.PublicKey, "k1"))
	eventually(t, "the server is listened to again", func() bool { return g.handshake(t, keyToken(t, k1, "k1")) == in })
}

// TestKeysComeLater starts a gateway before its issuer's key server.
func TestKeysComeLater(t *testing.T) {
	t.Parallel()
	key := newEC(t)
	keys := serveKeys(t)
	g := startFetching(t, keys, setup{cold: true})
	eventually(t, "NATS and the key server were tried", func() bool { return g.bus.EverConnected() && keys.requests.Load() > 0 })
	eventually(t, "readyz says why", func() bool {
		why := g.page(g.admin.addr, "/readyz")
		return g.status("/readyz") == http.StatusServiceUnavailable && strings.Contains(why, "no keys of "+keys.URL) && strings.Contains(why, "EOF")
	})
	if g.status("/livez") != http.StatusOK {
		t.Error("a gateway without keys is dead")
	}
	// A token of which nothing can be known is not called bad.
	got := ask(t, g.addr, wsRequest("/v1/ws", bearerLine(keyToken(t, key, "k1"))))
	if after, err := strconv.Atoi(got.header.Get("Retry-After")); got.status != http.StatusServiceUnavailable || err != nil || after < 1 || got.header.Get("WWW-Authenticate") != "" {
		t.Errorf("without keys a token gets %s", got.all)
	}
	for reason, n := range counters(g.page(g.admin.addr, "/metrics"), "pushgate_token_refusals_total") {
		if n != 0 {
			t.Errorf("%d tokens are called %s", n, reason)
		}
	}
	if got := ask(t, g.addr, wsRequest("/v1/ws", bearerLine(canary))); got.status != http.StatusUnauthorized {
		t.Errorf("what is no token gets %d", got.status)
	}
	keys.publish(jwk(t, &key.PublicKey, "k1"))
	eventually(t, "the keys have come", func() bool { return g.status("/readyz") == http.StatusOK })
	if got := g.handshake(t, keyToken(t, key, "k1")); got != in {
		t.Errorf("with keys a token gets %d", got)
	}
}

// TestUnknownKeyFlood has strangers make up names of keys, in handshakes and in
// renewals, while others come with good tokens.
func TestUnknownKeyFlood(t *testing.T) {
	const handshakes, strangers = 10_000, 8
	key := newEC(t)
	keys := serveKeys(t, jwk(t, &key.PublicKey, "k1"))
	g := startFetching(t, keys, setup{}, "GATEWAY_AUTH_JWKS_INTERVAL=1h", "GATEWAY_AUTH_JWKS_REFRESH=1h")
	before := keys.requests.Load() // one, unless it failed at first
	tokens := make([]string, 40)
	for i := range tokens {
		tokens[i] = keyToken(t, key, "k1", fmt.Sprintf(`sub="u%d"`, i))
	}
	// good is one good handshake, and the time it took.
	n := 0
	good := func() time.Duration {
		n++
		request, began := wsRequest("/v1/ws", bearerLine(tokens[n%len(tokens)])), time.Now()
		if got := ask(t, g.addr, request); got.status != in {
			t.Errorf("a good token gets %s", got.all)
		}
		return time.Since(began)
	}
	var alone, beside []time.Duration
	for range 400 {
		alone = append(alone, good())
	}
	if got := keys.requests.Load() - before; got != 0 {
		t.Errorf("%d fetches for tokens whose key is known", got)
	}

	c, _ := g.dial(keyToken(t, key, "k1"), "")
	body := payload()
	unknown := func(n int) string { return forge(fmt.Sprintf(`{"alg":"ES256","kid":"%d"}`, n), body, junk) }
	var flood sync.WaitGroup
	began := time.Now()
	for w := range strangers {
		flood.Go(func() {
			for n := w; n < handshakes; n += strangers {
				got, err := askAlone(g.addr, wsRequest("/v1/ws", bearerLine(unknown(n))))
				if err != nil || got.status != out {
					t.Errorf("an unknown key gets %q, %v", got.all, err)
					return
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { flood.Wait(); close(over) }()
	for flooding := true; flooding; {
		select {
		case <-over:
			flooding = false
		default:
			beside = append(beside, good())
			c.say("renew", "ref", "r", "token", unknown(handshakes+len(beside)))
			c.expect(`{"type":"error","ref":"r","code":"forbidden","message":"The token is signed with a key that is not known here."}`)
		}
	}
	took := time.Since(began)

	if got := keys.requests.Load() - before; got != 1 {
		t.Errorf("%d fetches for the flood, want one", got)
	}
	refused := counters(g.page(g.admin.addr, "/metrics"), "pushgate_token_refusals_total")
	if refused["unknown_key"] != handshakes+len(beside) {
		t.Errorf("refused tokens are %v", refused)
	}
	if len(beside) < 20 {
		t.Errorf("only %d good handshakes were made beside the flood", len(beside))
	}
	t.Logf("%d unknown keys in %s; p99 of a good handshake: %s of %d alone, %s of %d beside the flood",
		handshakes+len(beside), took.Round(time.Millisecond), p99(alone), len(alone), p99(beside), len(beside))
	c.settled()
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100].Round(10 * time.Microsecond)
}
