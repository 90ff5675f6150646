package session

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"pushgate/internal/auth"
)

// A key is published while a fetch is under way that does not have it yet: the
// token that needs it waits for the next fetch as well.
func TestKeyComesDuringAFetch(t *testing.T) {
	was := parkTime
	parkTime = patience
	t.Cleanup(func() { parkTime = was })

	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	set := func(kid string) *string {
		s := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}]}`, kid, base64.RawURLEncoding.EncodeToString(public))
		return &s
	}
	var body atomic.Pointer[string]
	var requests atomic.Int32
	held, release := make(chan struct{}), make(chan struct{})
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		was := body.Load()
		if requests.Add(1) == 2 {
			close(held)
			<-release
		}
		_, _ = fmt.Fprint(w, *was)
	}))
	t.Cleanup(keys.Close)
	body.Store(set("old"))
	verifier, err := auth.New(auth.Options{
		JWKSInterval: time.Hour, JWKSRefresh: 100 * time.Millisecond,
		Issuers: []auth.Issuer{{JWKSURL: keys.URL, Subscriptions: []string{"user.{sub}"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	h := startHub(t, func(c *Config) { c.Verifier, c.Subscriptions = verifier, map[string][]string{"": {"user.{sub}"}} })
	fetching := make(chan struct{})
	go func() { defer close(fetching); verifier.FetchKeys(ctx) }()
	t.Cleanup(func() { cancel(); <-fetching })

	<-held
	body.Store(set("new"))
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	signed := part(`{"alg":"EdDSA","kid":"new"}`) + "." + part(fmt.Sprintf(`{"sub":"alice","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	token := signed + "." + part(string(ed25519.Sign(private, []byte(signed))))
	answer := make(chan error, 1)
	go func() {
		conn, _, err := websocket.Dial(ctx, "ws://"+h.addr+"/v1/ws", &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
		})
		if err == nil {
			_ = conn.CloseNow()
		}
		answer <- err
	}()
	eventually(t, "the token waits for keys", func() bool { return h.parked.Load() == 1 })
	close(release)
	if err := <-answer; err != nil {
		t.Errorf("its token gets %v", strings.TrimSpace(err.Error()))
	}
}
