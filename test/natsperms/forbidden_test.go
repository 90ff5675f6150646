package natsperms

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// testForbidden tries what nobody needs, and beside it what somebody does: a
// server that forbids everything would forbid this too.
func testForbidden(t *testing.T, c *cluster, _ *gateway) {
	type attempts map[string][]string // by verb
	for role, try := range map[string]struct{ may, mustNot attempts }{
		"gateway": {
			may: attempts{
				"publish":   {"pushgate.ack.alice", "pushgate.presence.connected", "$JS.API.STREAM.INFO.PUSH", "$JS.API.DIRECT.GET.PUSH"},
				"subscribe": {"pushed.>", "flash.>", "flash.user.alice", "$SRV.PING", "pushgate.control.revoke", "pushgate.presence.users", "_INBOX.x"},
			},
			mustNot: attempts{
				"publish": {
					"push.user.alice", "pushed.user.alice", "flash.user.alice", "pushgate.control.revoke", "pushgate.presence.users", "$SRV.PING",
					"_INBOX.x", "_INBOX_backend.x",
					"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.OTHER", "$JS.API.DIRECT.GET.OTHER",
					"$JS.API.STREAM.CREATE.PUSH", "$JS.API.STREAM.UPDATE.PUSH", "$JS.API.STREAM.DELETE.PUSH", "$JS.API.STREAM.PURGE.PUSH",
					"$JS.API.STREAM.MSG.DELETE.PUSH", "$JS.API.CONSUMER.CREATE.PUSH.x", "$JS.API.CONSUMER.DURABLE.CREATE.PUSH.x",
					"$JS.API.STREAM.SNAPSHOT.PUSH", "$JS.API.STREAM.UPDATE.KV_pushgate_revocations", "$JS.API.STREAM.PURGE.KV_pushgate_revocations",
					"$JS.API.STREAM.DELETE.KV_pushgate_acks", "$JS.API.CONSUMER.CREATE.KV_pushgate_acks.x", "$KV.other.key",
					"$SYS.REQ.SERVER.PING",
				},
				"subscribe": {"push.>", "push.user.alice", ">", "$JS.API.>", "$KV.>", "pushgate.ack.*", "_INBOX_backend.>", "$SYS.>", "*.user.alice"},
			},
		},
		"backend": {
			may: attempts{
				"publish":   {"push.user.zoe", "flash.user.zoe", "pushgate.presence.users"},
				"subscribe": {"pushgate.ack.*", "pushgate.ack.alice", "pushgate.presence.connected", "_INBOX_backend.x"},
			},
			mustNot: attempts{
				"publish": {
					"pushed.user.alice", "pushgate.control.revoke", "pushgate.control.disconnect", "pushgate.ack.alice", "pushgate.presence.connected",
					"$SRV.PING", "$KV.pushgate_revocations.YWxpY2U", "$KV.pushgate_acks.YWxpY2U", "$JS.API.INFO", "$JS.API.STREAM.INFO.PUSH",
					"$JS.API.DIRECT.GET.PUSH", "$JS.API.CONSUMER.CREATE.PUSH.x", "$JS.API.STREAM.DELETE.PUSH", "_INBOX.x",
				},
				"subscribe": {"push.>", "pushed.>", "flash.>", "flash.user.alice", "_INBOX.>", "_INBOX_trusted.>", "pushgate.control.>", "$KV.>", ">"},
			},
		},
		"trusted": {
			may: attempts{
				"publish":   {"push.user.zoe", "flash.user.zoe", "pushgate.control.disconnect", "$SRV.PING"},
				"subscribe": {"pushgate.ack.*", "_INBOX_trusted.x"},
			},
			mustNot: attempts{
				"publish": {
					"pushed.user.alice", "pushgate.ack.alice", "pushgate.presence.connected", "$KV.pushgate_revocations.YWxpY2U",
					"$JS.API.STREAM.INFO.PUSH", "$JS.API.STREAM.DELETE.KV_pushgate_revocations",
				},
				"subscribe": {"push.>", "pushed.>", "flash.>", "_INBOX.>", "_INBOX_backend.>", "pushgate.control.>"},
			},
		},
		"admin": {
			may: attempts{"publish": {"$JS.API.STREAM.INFO.PUSH", "$JS.API.INFO"}, "subscribe": {"_INBOX_admin.x"}},
			mustNot: attempts{
				"publish":   {"push.user.alice", "pushed.user.alice", "flash.user.alice", "pushgate.control.revoke", "$KV.pushgate_acks.YWxpY2U"},
				"subscribe": {"push.>", "pushed.>", "flash.>", "_INBOX.>"},
			},
		},
	} {
		for verb, subjects := range try.may {
			for _, subject := range subjects {
				if err := violation(t, c.connect(t, role), verb, subject); err != nil {
					t.Errorf("%s may not %s %s: %v", role, verb, subject, err)
				}
			}
		}
		for verb, subjects := range try.mustNot {
			for _, subject := range subjects {
				if violation(t, c.connect(t, role), verb, subject) == nil {
					t.Errorf("%s may %s %s", role, verb, subject)
				}
			}
		}
	}
	// Without a key nobody comes in, and nobody without TLS.
	if nc, err := nats.Connect(c.url, nats.RootCAs(c.file("ca.pem"))); err == nil {
		nc.Close()
		t.Error("somebody without a key is connected")
	}
}

// testForged has servers and gateways answer where answers do not belong: they
// may publish what a backend may not. No client may see anything of it.
func testForged(t *testing.T, c *cluster, _ *gateway) {
	c.heard(t, "flash.user.frank", false) // no gateway of before
	g := c.startGateway(t)
	g.mayComplain = true // requests that make no sense are logged
	backend := c.connect(t, "backend")
	frank, _ := g.open(t, "frank", "")
	c.heard(t, "flash.user.frank", true)
	c.heard(t, "pushed.user.frank", true)
	publish(t, backend, "push.user.frank", []byte(`"begin"`))
	frank.event("user.frank", `"begin"`)
	foreign := func() int {
		n, err := strconv.Atoi(g.metric("pushgate_stream_foreign_total"))
		if err != nil {
			return -1
		}
		return n
	}
	counted := 0
	for _, subject := range []string{"push.user.frank", "flash.user.frank"} {
		ask := func(reply string) {
			if err := backend.PublishRequest(subject, reply, []byte("1")); err != nil {
				t.Fatal(err)
			}
			frank.event("user.frank", "1")
		}
		ask("pushgate.control.revoke")
		ask("pushgate.control.disconnect")
		eventually(t, "the answer under pushed. to "+subject+" is counted", func() bool {
			// It can be lost, with the leader that had to give it: then it is
			// asked for again.
			ask("pushed.user.frank")
			for end := time.Now().Add(5 * time.Second); foreign() <= counted && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
			n := foreign()
			defer func() { counted = max(counted, n) }()
			return n > counted
		})
	}
	publish(t, backend, "push.user.frank", []byte(`"end"`))
	frank.event("user.frank", `"end"`)
	frank.settled()
}
