package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Answer is what one gateway says to a request.
type Answer struct {
	Data  []byte // JSON; empty with an error
	Error string // why it did not do it, in one sentence
}

// Question is a request to all gateways.
type Question struct {
	Subject string
	Data    []byte
	Wait    time.Duration // for answers
	Answers int           // that are enough; 0: all that come in time
}

// Ask connects, asks all gateways, and gives each answer as it comes, until the
// time is over or there are enough. It closes the connection. That nobody
// answers is an error.
func Ask(ctx context.Context, o Options, q Question, each func(Answer) error) error {
	opts, err := o.nats()
	if err != nil {
		return err
	}
	dialing, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	dialer := &contextDialer{ctx: dialing}
	defer dialer.stop()
	conn, err := nats.Connect(o.URL, append(opts,
		nats.NoReconnect(), nats.SetCustomDialer(dialer), nats.Timeout(publishWithin),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	)...)
	if err != nil {
		return connectError(dialing, o.URL, err)
	}
	defer conn.Close()
	inbox := conn.NewInbox()
	sub, err := conn.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("asking at %s failed: %w", q.Subject, err)
	}
	if err := conn.PublishRequest(q.Subject, inbox, q.Data); err != nil {
		return fmt.Errorf("asking at %s failed: %w", q.Subject, err)
	}
	if err := conn.FlushWithContext(dialing); err != nil {
		return fmt.Errorf("NATS at %s did not confirm the request: %w", Redact(o.URL), err)
	}
	if errors.Is(conn.LastError(), nats.ErrPermissionViolation) {
		return fmt.Errorf("NATS at %s does not let this user ask at %s", Redact(o.URL), q.Subject)
	}
	return collect(ctx, sub, q, each)
}

func collect(ctx context.Context, sub *nats.Subscription, q Question, each func(Answer) error) error {
	limit, cancel := context.WithTimeout(ctx, q.Wait)
	defer cancel()
	for n := 0; q.Answers == 0 || n < q.Answers; n++ {
		m, err := sub.NextMsgWithContext(limit)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return fmt.Errorf("no gateway offers %s on this NATS", q.Subject)
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for answers was interrupted: %w", ctx.Err())
		case limit.Err() != nil && n == 0:
			return fmt.Errorf("no gateway has answered within %s", q.Wait)
		case limit.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("waiting for answers failed: %w", err)
		}
		if err := each(Answer{Data: m.Data, Error: m.Header.Get("Nats-Service-Error")}); err != nil {
			return err
		}
	}
	return nil
}
