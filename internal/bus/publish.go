package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"pushgate/api"
)

// publishWithin bounds a Publish whose context has no earlier deadline. Tests
// are more patient.
var publishWithin = 10 * time.Second

// ErrSubject says that nothing can be published to what was named.
var ErrSubject = errors.New("not a subject to publish to")

// Publish connects, publishes one message, waits until the server has it, and
// closes the connection. header may be nil; names keep their case, as NATS
// compares them. Errors are one sentence that says what to do, without
// credentials.
func Publish(ctx context.Context, o Options, subject string, data []byte, header map[string]string) error {
	if !api.ValidSubject(subject) {
		return fmt.Errorf("%q is %w: it must be tokens joined by dots, without wildcard, space or control character, at most %d bytes", subject, ErrSubject, api.MaxSubject)
	}
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	for name, value := range header {
		if !headerName(name) || strings.ContainsAny(value, "\r\n\x00") {
			return fmt.Errorf("header %q cannot be sent: its name must be letters, digits and dashes, its value one line", name)
		}
		msg.Header[name] = []string{value}
	}
	opts, err := o.nats()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	dialer := &contextDialer{ctx: ctx}
	defer dialer.stop()

	deadline, _ := ctx.Deadline()
	conn, err := nats.Connect(o.URL, append(opts,
		nats.NoReconnect(),
		nats.SetCustomDialer(dialer),
		nats.Timeout(time.Until(deadline)),
		// Without a handler nats.go prints to stderr itself.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	)...)
	if err != nil {
		return connectError(ctx, o.URL, err)
	}
	defer conn.Close()
	if err := conn.PublishMsg(msg); err != nil {
		if errors.Is(err, nats.ErrMaxPayload) {
			return fmt.Errorf("the message has %d bytes, but NATS at %s takes at most %d", len(data), Redact(o.URL), conn.MaxPayload())
		}
		return fmt.Errorf("publishing to %s failed: %w", subject, err)
	}
	if err := conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("NATS at %s did not confirm the message: %w", Redact(o.URL), err)
	}
	// A refusal comes before the answer to the flush, but on its own.
	if err := conn.LastError(); err != nil {
		if errors.Is(err, nats.ErrPermissionViolation) {
			return fmt.Errorf("NATS at %s does not let this user publish to %s", Redact(o.URL), subject)
		}
		return fmt.Errorf("publishing to %s failed: %w", subject, err)
	}
	return nil
}

func connectError(ctx context.Context, urls string, err error) error {
	at := Redact(urls)
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
		return fmt.Errorf("connecting to NATS at %s was interrupted: %w", at, context.Canceled)
	case errors.Is(err, nats.ErrAuthorization), strings.Contains(strings.ToLower(err.Error()), "authorization"):
		return fmt.Errorf("NATS at %s refuses the login: check nats.user, nats.token, nats.creds_file or nats.nkey_file", at)
	}
	return fmt.Errorf("cannot reach NATS at %s: is `gateway dev` running, and nats.url right? (%s)", at, Redact(err.Error()))
}

// headerName reports whether s is a token of RFC 9110 §5.6.2.
func headerName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// contextDialer ends dialing, and what is read while the connection is set up,
// with its context: nats.Connect takes none.
type contextDialer struct {
	ctx     context.Context
	release []func() bool
}

// Dial is for nats.go, which closes the connection.
func (d *contextDialer) Dial(network, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.release = append(d.release, context.AfterFunc(d.ctx, func() { _ = conn.Close() }))
	return conn, nil
}

func (d *contextDialer) stop() {
	for _, f := range d.release {
		f()
	}
}
