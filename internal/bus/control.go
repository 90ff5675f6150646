package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"
)

// Sessions are what the control service acts on: the gateway's own. Its methods
// are called from several goroutines and must not wait for a client.
type Sessions interface {
	// DisconnectUser begins to end a user's sessions and returns how many.
	DisconnectUser(user string) int
	// DisconnectSession ends one and returns 1, or 0 when it is not here.
	DisconnectSession(id string) int
	// Revoke ends, and refuses from now on, sessions of a user whose token was
	// issued before a Unix time, or has no iat. It returns how many sessions it
	// ends. Repeating it is harmless; it never lifts an earlier one.
	Revoke(user string, issuedBefore int64) int
	// Rebalance begins to move a share of the sessions, in (0, 1], to other
	// gateways and returns how many.
	Rebalance(share float64) (int, error)
}

// Control is what the control service needs.
type Control struct {
	Sessions Sessions
	Gateway  string // its name, in replies
	Version  string // of the program, in any form

	Inspected Inspected // nil: sessions, stats, why and loglevel are not offered
	Presence  bool      // whoever asks is told who is online here

	// RevocationTTL is how long a revocation is remembered. It has to outlive
	// the tokens it hits: MaxRevokeAhead, and the longest life of a token.
	RevocationTTL time.Duration
}

// MaxRevokeAhead is how far in the future the time of a revocation may lie:
// clocks differ, and a time in milliseconds is a mistake.
const MaxRevokeAhead = time.Hour

// control is the NATS micro service "pushgate". Every gateway answers every
// request, for its own sessions.
type control struct {
	Control
	b       *Bus
	log     *zap.Logger
	known   *revocations
	service micro.Service // nil until Start

	mu      sync.RWMutex // held while a request is handled
	stopped bool
}

// ServeControl makes Start offer the control service, and keep and learn
// revocations. It must be called before Start.
func (b *Bus) ServeControl(c Control) error {
	switch {
	case c.Sessions == nil:
		return errors.New("the control service has no sessions")
	case c.Gateway == "":
		return errors.New("the control service needs the gateway's name")
	case c.RevocationTTL < time.Second:
		return fmt.Errorf("revocations cannot be kept for %s: it must be a second at least", c.RevocationTTL)
	}
	b.control = &control{Control: c, b: b, log: b.log, known: newRevocations(b, c)}
	return nil
}

// serve offers the service. A connection that is not there yet is no error:
// the client library subscribes when it is, and again after each outage.
func (c *control) serve() error {
	cfg := micro.Config{
		Name: "pushgate", Version: strings.TrimPrefix(c.Version, "v"),
		Description:        "the sessions of a push gateway",
		Metadata:           map[string]string{"gateway": c.Gateway, "version": c.Version},
		QueueGroupDisabled: true, // or one gateway of all would answer
	}
	service, err := micro.AddService(c.b.conn, cfg)
	if errors.Is(err, micro.ErrConfigValidation) {
		// The service wants a semantic version, a build may have none. The
		// metadata tells the true one.
		cfg.Version = "0.0.0-devel"
		service, err = micro.AddService(c.b.conn, cfg)
	}
	if err != nil {
		return fmt.Errorf("offering the control service: %w", err)
	}
	c.service = service
	for name, handle := range map[string]func(micro.Request) error{
		"disconnect": c.disconnect, "revoke": c.revoke, "rebalance": c.rebalance,
	} {
		if err := service.AddEndpoint(name, c.handler(handle), micro.WithEndpointSubject("pushgate.control."+name)); err != nil {
			return fmt.Errorf("offering the control service: %w", err)
		}
	}
	if err := c.serveInspected(); err != nil {
		return fmt.Errorf("offering the control service: %w", err)
	}
	c.known.start()
	return nil
}

// handler makes sure that the sessions are left alone once stop is back.
func (c *control) handler(handle func(micro.Request) error) micro.HandlerFunc {
	return func(r micro.Request) {
		c.mu.RLock()
		defer c.mu.RUnlock()
		if c.stopped {
			return
		}
		if err := handle(r); err != nil {
			c.refuse(r, err)
		}
	}
}

// reply is what a gateway answers. Stored is only in the reply to a revoke.
type reply struct {
	Gateway      string `json:"gateway"`
	Disconnected int    `json:"disconnected"`
	Stored       *bool  `json:"stored,omitempty"`
	Warning      string `json:"warning,omitempty"`
}

func (c *control) disconnect(r micro.Request) error {
	q, err := parseDisconnect(r.Data())
	if err != nil {
		return err
	}
	var n int
	if q.user != "" {
		n = c.Sessions.DisconnectUser(q.user)
	} else {
		n = c.Sessions.DisconnectSession(q.session)
	}
	c.log.Info("disconnected on request", zap.String("user", q.user), zap.String("session", q.session), zap.Int("sessions", n))
	c.send(r.Reply(), reply{Gateway: c.Gateway, Disconnected: n})
	return nil
}

// moved is what a gateway answers to a rebalance.
type moved struct {
	Gateway string `json:"gateway"`
	Moving  int    `json:"moving"`
}

func (c *control) rebalance(r micro.Request) error {
	q, err := parseRebalance(r.Data())
	if err != nil {
		return err
	}
	n, err := c.Sessions.Rebalance(q.share)
	if err != nil {
		return err
	}
	c.log.Info("rebalancing on request", zap.Float64("share", q.share), zap.Int("sessions", n))
	c.send(r.Reply(), moved{Gateway: c.Gateway, Moving: n})
	return nil
}

// revoke acts here at once; NATS is told afterwards, on another goroutine, so
// that the next request need not wait for it.
func (c *control) revoke(r micro.Request) error {
	q, err := parseRevoke(r.Data(), time.Now())
	if err != nil {
		return err
	}
	n := c.Sessions.Revoke(q.user, q.issuedBefore)
	c.log.Info("revoked on request", zap.String("user", q.user), zap.Int64("issued_before", q.issuedBefore), zap.Int("sessions", n))
	to := r.Reply()
	c.known.keep(q.user, q.issuedBefore, func(err error) {
		stored := err == nil
		answer := reply{Gateway: c.Gateway, Disconnected: n, Stored: &stored}
		if err != nil {
			answer.Warning = "the revocation is not stored, so it holds only on gateways that run now, until they restart: " + err.Error()
			c.log.Warn("a revocation is not stored: it is forgotten when the gateways restart",
				zap.String("user", q.user), zap.String("reason", err.Error()))
		}
		c.send(to, answer)
	})
	return nil
}

// send answers whoever wants an answer. It does not go through the request,
// which its service reads again when the handler is back.
func (c *control) send(to string, answer any) {
	if to == "" {
		return
	}
	data, err := json.Marshal(answer)
	if err == nil {
		err = c.b.conn.Publish(to, data)
	}
	if err != nil {
		c.log.Warn("a control request could not be answered", zap.String("reason", c.b.clean(err)))
	}
}

func (c *control) refuse(r micro.Request, err error) {
	c.log.Warn("a control request was refused", zap.String("subject", r.Subject()), zap.String("reason", err.Error()))
	if r.Reply() == "" {
		return
	}
	if err := r.Error("400", err.Error(), nil); err != nil {
		c.log.Warn("a control request could not be answered", zap.String("reason", c.b.clean(err)))
	}
}

// stop is for after the connection's end: a service that drains its
// subscriptions on a lost connection gives up half-way.
func (c *control) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	if c.service == nil {
		return
	}
	if err := c.service.Stop(); err != nil {
		c.log.Warn("the control service did not stop cleanly", zap.String("reason", c.b.clean(err)))
	}
}
