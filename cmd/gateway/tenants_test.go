package main

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pushgate/internal/auth"
)

// tenants are two issuers on one gateway: red signs with a secret, blue with a
// key that it publishes.
type tenants struct {
	*running
	blue *ecdsa.PrivateKey
}

func startTenants(t *testing.T, settings ...string) *tenants {
	t.Helper()
	key := newEC(t)
	published := serveKeys(t, jwk(t, &key.PublicKey, "b1"))
	file := fmt.Sprintf(`
subscriptions: ["{issuer}.user.{sub}", "{issuer}.all"]
auth:
  issuers:
    - name: red
      issuer: https://red.example
      hs256_secret: %q
      grant_ceiling: ["{issuer}.rooms.>"]
    - name: blue
      issuer: https://blue.example
      jwks_url: %q
      algorithms: [ES256]
`, redSecret, published.URL)
	return &tenants{setup{file: file}.start(t, settings...), key}
}

// tenantToken is a token of "red" or "blue".
func (n *tenants) tenantToken(issuer, sub string, changes ...string) string {
	changes = append([]string{fmt.Sprintf(`iss="https://%s.example"`, issuer), fmt.Sprintf("sub=%q", sub)}, changes...)
	if issuer == "red" {
		return forge(hs256Header, payload(changes...), hs(redSecret))
	}
	return forge(`{"alg":"ES256","kid":"b1"}`, payload(changes...), es256(n.tb, n.blue))
}

func TestTenantsAreApart(t *testing.T) {
	for _, interest := range []string{"wildcard", "exact"} {
		t.Run(interest, func(t *testing.T) {
			n := startTenants(t, "GATEWAY_NATS_INTEREST="+interest)
			// Both tenants have an alice, and both ask for the same things.
			clients := map[string]*wsClient{}
			for _, issuer := range []string{"red", "blue"} {
				c, welcome := n.dial(n.tenantToken(issuer, "alice", `subscribe=["*.rooms.*","red.>","blue.>","user.alice"]`), "")
				want := fmt.Sprintf("[%s.user.alice %s.all]", issuer, issuer)
				if welcome["user"] != issuer+"/alice" || fmt.Sprint(welcome["subjects"]) != want {
					t.Errorf("%s is welcomed with %v", issuer, welcome)
				}
				clients[issuer] = c
			}
			// What a claim may grant ends at the issuer's ceiling: red has one,
			// blue has none to go up to.
			for subject, may := range map[string]map[string]bool{
				"red.rooms.1":     {"red": true},
				"blue.rooms.1":    {},
				"*.rooms.1":       {},
				"red.>":           {},
				"blue.>":          {},
				"red.user.alice":  {"red": true},
				"blue.user.alice": {"blue": true},
				"red.user.*":      {},
				"user.alice":      {},
			} {
				for issuer, c := range clients {
					c.say("subscribe", "ref", "1", "subject", subject)
					m := c.next()
					if may[issuer] != (m["type"] == "subscribed") || !may[issuer] && m["code"] != "forbidden" {
						t.Errorf("%s asks for %s and gets %v", issuer, subject, m)
					}
				}
			}
			for _, subject := range []string{
				"red.user.alice", "blue.user.alice", "user.alice", "red.user.bob", "red.all", "blue.all", "all",
				"red.rooms.1", "blue.rooms.1", "purple.user.alice",
			} {
				n.publish("push."+subject, "stored")
				n.publish("flash."+subject, "not stored")
			}
			for issuer, subjects := range map[string][]string{
				"red": {"red.user.alice", "red.all", "red.rooms.1"}, "blue": {"blue.user.alice", "blue.all"},
			} {
				// Order holds within a subject and a root only.
				got, want := map[string]int{}, map[string]int{}
				for _, s := range subjects {
					want[s+" stored"], want[s+" not stored"] = 1, 1
				}
				for range 2 * len(subjects) {
					m := clients[issuer].next()
					got[fmt.Sprint(m["subject"], " ", m["data"])]++
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s got %v", issuer, got)
				}
				clients[issuer].settled()
			}
		})
	}
}

func TestTenantsUsersAreApart(t *testing.T) {
	n := startTenants(t, "GATEWAY_LIMITS_SESSIONS_PER_USER=2", "GATEWAY_LIMITS_SESSIONS_PER_USER_POLICY=refuse")
	red, _ := n.dial(n.tenantToken("red", "alice"), "")
	blue, _ := n.dial(n.tenantToken("blue", "alice"), "")
	redBob, _ := n.dial(n.tenantToken("red", "bob"), "")
	n.dial(n.tenantToken("red", "alice"), "")
	// Red's alice is full, blue's is not.
	if a := ask(t, n.addr, wsRequest("/v1/ws", bearerLine(n.tenantToken("red", "alice")))); a.status != 429 || a.code != "rate" {
		t.Errorf("red's third session gets %d %s", a.status, a.code)
	}
	n.dial(n.tenantToken("blue", "alice"), "")

	// Tokens from before, for afterwards.
	revoked, again := n.tenantToken("red", "alice"), n.tenantToken("red", "bob")
	// Nobody is called alice: names without an issuer end nobody's session.
	for user, ended := range map[string]int{"alice": 0, "red.alice": 0, "red/*": 0, "red/alice": 2, "purple/alice": 0} {
		m, err := n.nats.Request("pushgate.control.revoke", []byte(fmt.Sprintf(`{"user":%q}`, user)), comesWithin)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Disconnected int }
		if err := json.Unmarshal(m.Data, &got); err != nil || got.Disconnected != ended {
			t.Errorf("revoking %s: %s, %v", user, m.Data, err)
		}
	}
	red.ended(4000, "revoked")
	redBob.settled()
	blue.settled()
	if a := ask(t, n.addr, wsRequest("/v1/ws", bearerLine(revoked))); a.status != 401 {
		t.Errorf("red's alice comes back: %d", a.status)
	}
	if got := n.metric(`pushgate_token_refusals_total{reason="` + auth.ReasonRevoked.String() + `"}`); got != "1" {
		t.Errorf("%s tokens are counted as revoked", got)
	}
	n.dial(again, "")
	// A renewal as the other tenant's alice is one as another user.
	blue.say("renew", "ref", "r", "token", n.tenantToken("red", "alice", "iat="+unixIn(10*time.Second)))
	blue.ended(4002, "another user")
}
