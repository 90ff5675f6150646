package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// publishServer starts a NATS server in this process; the test stops it.
func publishServer(t *testing.T, change func(*server.Options)) string {
	t.Helper()
	o := &server.Options{MaxPayload: 1 << 10}
	if change != nil {
		change(o)
	}
	return startServer(t, o).ClientURL()
}

func TestPublish(t *testing.T) {
	url := publishServer(t, nil)
	sub := listen(t, connect(t, url), "push.>")
	header := map[string]string{"Nats-Msg-Id": "m-1", "traceparent": "00-ab"}
	if err := Publish(t.Context(), Options{URL: url}, "push.user.alice", []byte("hello"), header); err != nil {
		t.Fatal(err)
	}
	msg, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if msg.Subject != "push.user.alice" || string(msg.Data) != "hello" ||
		msg.Header.Get("Nats-Msg-Id") != "m-1" || msg.Header.Get("traceparent") != "00-ab" {
		t.Errorf("got %+v", msg)
	}
}

func TestPublishRefuses(t *testing.T) {
	open := publishServer(t, nil)
	closed := publishServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "hush", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"push.>"}},
		}}}
	})
	host := strings.TrimPrefix(closed, "nats://")
	tests := []struct {
		name    string
		url     string
		subject string
		data    string
		header  map[string]string
		want    string
	}{
		{"wildcard", open, "push.*", "", nil, `"push.*" is not a subject to publish to`},
		{"no subject", open, "", "", nil, `"" is not a subject`},
		{"header name", open, "a", "", map[string]string{"a b": "c"}, `header "a b" cannot be sent`},
		{"empty header name", open, "a", "", map[string]string{"": "c"}, `header "" cannot be sent`},
		{"header value", open, "a", "", map[string]string{"a": "b\r\nc: d"}, `header "a" cannot be sent`},
		{"too large", open, "a", strings.Repeat("x", 1<<10+1), nil, "takes at most 1024"},
		{"bad option", "http://h", "a", "", nil, "has the scheme"},
		{"no login", closed, "push.a", "", nil, "refuses the login"},
		{"wrong login", "nats://u:wrong@" + host, "push.a", "", nil, "[redacted]@" + host + " refuses the login"},
		{"no permission", "nats://u:hush@" + host, "other.a", "", nil, "does not let this user publish to other.a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Publish(t.Context(), Options{URL: tt.url}, tt.subject, []byte(tt.data), tt.header)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "wrong")) {
				t.Errorf("the password shows: %v", err)
			}
		})
	}
}

func TestPublishNobodyThere(t *testing.T) {
	address := fmt.Sprint("127.0.0.1:", freePort(t))
	err := Publish(t.Context(), Options{URL: "nats://u:hush@" + address}, "push.a", nil, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "cannot reach NATS at nats://[redacted]@"+address+": is `gateway dev` running") {
		t.Errorf("got %v", err)
	}
}

// A server that accepts and says nothing does not hold Publish up longer than
// its context.
func TestPublishInterrupted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		cancel()
		_, _ = conn.Read(make([]byte, 1)) // until Publish hangs up
		_ = conn.Close()
	}()
	err = Publish(ctx, Options{URL: "nats://" + l.Addr().String()}, "push.a", nil, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
