package bus

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// guarded is a bus on a server with users, and its log.
func guarded(t *testing.T, o Options) (*Bus, *observer.ObservedLogs, *sink) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	b, err := New(Config{Options: o, Log: zap.New(core), Prefix: "push", FlashPrefix: "flash"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	got := &sink{}
	if err := b.Start(got); err != nil {
		t.Fatal(err)
	}
	return b, logs, got
}

func users(password string) []*server.User {
	return []*server.User{{Username: "u", Password: password}}
}

// TestWrongCredentials: the log says which login NATS refuses, nothing of the
// secret, and the gateway goes on trying until it is let in.
func TestWrongCredentials(t *testing.T) {
	s := startServer(t, &server.Options{Users: users("right")})
	b, logs, _ := guarded(t, Options{URL: s.ClientURL(), User: "u", Password: "canary-wrong"})
	eventually(t, "it is refused", func() bool { return logs.FilterMessageSnippet("cannot be reached").Len() > 0 })
	eventually(t, "it tries more than twice, after which the client library gives up by itself", func() bool {
		v, err := s.Varz(nil)
		return err == nil && v.TotalConnections >= 4
	})
	refusals := 0
	for _, line := range logs.FilterMessageSnippet("cannot be reached").All() {
		fields := line.ContextMap()
		reason, _ := fields["reason"].(string)
		if !strings.Contains(strings.ToLower(reason), "authorization") {
			continue // the server was slow
		}
		refusals++
		if fields["login"] != "nats.user u" {
			t.Errorf("%v", fields)
		}
	}
	if refusals == 0 {
		t.Errorf("the log does not say why: %v", logs.All())
	}
	if err := s.ReloadOptions(&server.Options{
		Host: "127.0.0.1", Port: portOf(t, s), NoSigs: true, NoLog: true, Users: users("canary-wrong"),
		AuthTimeout: patience.Seconds(), WriteDeadline: patience,
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is let in", b.EverConnected)
	for _, line := range logs.All() {
		for _, f := range line.ContextMap() {
			if f == "canary-wrong" {
				t.Errorf("the log holds the password: %v", line)
			}
		}
	}
}

// TestRefusedRoot: a user that may not subscribe to a root is deaf; that is not
// ready, and ends when its permissions do.
func TestRefusedRoot(t *testing.T) {
	user := func(deny ...string) *server.User {
		return &server.User{Username: "u", Password: "p", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: deny}}}
	}
	s := startServer(t, &server.Options{Users: []*server.User{user("flash.>")}})
	b, _, got := guarded(t, Options{URL: s.ClientURL(), User: "u", Password: "p"})
	eventually(t, "it is known", func() bool { return b.Refused() == "flash.>" })
	port := portOf(t, s)
	s.Shutdown()
	s.WaitForShutdown()
	s = startServer(t, &server.Options{Port: port, Users: []*server.User{user("other.>")}})
	eventually(t, "it is over", func() bool { return b.Connected() && b.Refused() == "" })
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("u", "p"), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	eventually(t, "events come", func() bool {
		_ = nc.Publish("flash.a", []byte("1"))
		_ = nc.FlushTimeout(time.Second)
		got.mu.Lock()
		defer got.mu.Unlock()
		return len(got.events) > 0
	})
}

func TestLoginName(t *testing.T) {
	for want, o := range map[string]Options{
		"nats.creds_file /run/c":      {CredsFile: "/run/c"},
		"nats.nkey_file /run/n":       {NKeyFile: "/run/n"},
		"nats.user u":                 {User: "u", Password: "secret"},
		"nats.token":                  {Token: "secret"},
		"the credentials in nats.url": {URL: "nats://u:secret@h"},
		"nats.tls.cert_file /run/t":   {TLSCertFile: "/run/t"},
		"none is configured":          {URL: "nats://h"},
	} {
		if got := o.loginName(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
