package session

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"pushgate/api"
	"pushgate/internal/auth"
)

// check is a token on its way through the verifiers: of a handshake, or of a
// renewal.
type check struct {
	token string
	until time.Time // when it has waited long enough for keys, once it has begun to
	// done is called once, by a verifier.
	done func(auth.Identity, error)
}

// parkTime is how long a token may wait for its issuer's keys to be fetched,
// within the time that a handshake has. Tests are more patient.
var parkTime = 2 * time.Second

// maxParked is how many may: a stranger can make up key names as he likes.
const maxParked = 256

var (
	errBusy    = errors.New("too many tokens are being verified")
	errClosing = errors.New("the gateway is closing")
)

// check hands a token to the verifiers. It reports false when they are behind;
// it never waits.
func (h *Hub) check(c *check) bool {
	select {
	case h.verify <- c:
		return true
	default:
		return false
	}
}

// verifyAll is one verifier: it checks tokens, away from the loops.
func (h *Hub) verifyAll() {
	for {
		select {
		case c := <-h.verify:
			h.verifyOne(c)
		case <-h.quit:
			h.forgetChecks()
			return
		}
	}
}

// forgetChecks refuses what waits for the verifiers.
func (h *Hub) forgetChecks() {
	for {
		select {
		case c := <-h.verify:
			c.done(auth.Identity{}, errClosing)
		default:
			return
		}
	}
}

func (h *Hub) verifyOne(c *check) {
	id, err := h.cfg.Verifier.Verify(c.token)
	var bad *auth.Error
	if errors.As(err, &bad) && bad.Fetched != nil && h.park(c, bad.Fetched) {
		return
	}
	c.done(id, err)
}

// park has a token tried once more when its issuer's keys have been fetched. The
// fetch may have been under way before the key was there: then another follows,
// unless the time is over. No verifier waits for that.
func (h *Hub) park(c *check, fetched <-chan struct{}) bool {
	if c.until.IsZero() {
		c.until = time.Now().Add(parkTime)
	}
	left := time.Until(c.until)
	if left <= 0 {
		return false
	}
	if h.parked.Add(1) > maxParked {
		h.parked.Add(-1)
		return false
	}
	h.workers.Go(func() {
		defer h.parked.Add(-1)
		patience := time.NewTimer(left)
		defer patience.Stop()
		select {
		case <-fetched:
		case <-patience.C:
		case <-h.quit:
			c.done(auth.Identity{}, errClosing)
			return
		}
		select {
		case h.verify <- c:
		case <-h.quit:
			c.done(auth.Identity{}, errClosing)
		}
	})
	return true
}

// noteBadToken counts and logs why a token was refused; the token itself, and
// whatever it holds, stays out of it.
func (h *Hub) noteBadToken(err error) {
	var bad *auth.Error
	if !errors.As(err, &bad) {
		h.log.Warn("a token could not be verified", zap.Error(err))
		return
	}
	h.badTokens[bad.Reason].Add(1)
	h.log.Debug("token refused", zap.Stringer("reason", bad.Reason), zap.String("message", bad.Message))
}

// verified goes on with a handshake whose token was checked: what can be refused
// is, and the rest goes to its home. on is the loop that calls it, nil where that
// is a verifier.
func (h *Hub) verified(hs *handshake, id auth.Identity, err error, on *loop) {
	if err != nil {
		h.noteBadToken(err)
		h.refuse(hs, h.refusalOf(err))
		return
	}
	hs.user = id.User
	if refused := hs.mayHave(&h.cfg, &id); refused.Kind != api.RefusedNot {
		h.refuse(hs, refused)
		return
	}
	if !h.userPace.allow(h.hash([]byte(id.User)), h.cfg.Now()) {
		h.refuse(hs, h.tooMany("this user makes too many handshakes at the moment"))
		return
	}
	if refused := h.reserve(hs.addr); refused.Kind != api.RefusedNot {
		h.refuse(hs, refused)
		return
	}
	a := &admission{handshake: hs, identity: id, response: hs.answer(&h.cfg)}
	if stream := h.streamNow(); hs.device == "" || hs.cursor != "" || h.cfg.Acks == nil || stream == "" {
		h.settle(a, on)
		return
	}
	// A device that has lost its cursor goes on from where it last was.
	h.cfg.Acks.Place(id.User, hs.device, func(at api.Position, ok bool) {
		if ok {
			hs.cursor, hs.acked = at.Cursor(), true
		}
		h.settle(a, nil)
	})
}

// settle sends an admission to its home, when the events of its subjects
// arrive. Where it is there already it goes in at once; a poll's turn comes, or
// one client's polls could follow each other without end.
func (h *Hub) settle(a *admission, on *loop) {
	home := h.homeOf(a.identity.User)
	switch {
	case h.cfg.Interest != nil:
		h.cfg.Interest.Acquire(a.subjects(), func() { home.post(message{admit: a}) })
	case home == on && a.transport != transportPoll:
		on.admit(a)
	default:
		home.post(message{admit: a})
	}
}

// reserve takes a place for one session; release gives it back.
func (h *Hub) reserve(addr uint32) api.Refusal {
	if n := h.open.Add(1); h.cfg.Sessions > 0 && n > int64(h.cfg.Sessions) {
		h.open.Add(-1)
		return api.Refusal{Kind: api.RefusedFull, Message: "this gateway is full", RetryAfter: h.retryAfter()}
	}
	if !h.addresses.take(addr) {
		h.open.Add(-1)
		return h.tooMany("this address has too many sessions")
	}
	return api.Refusal{}
}

func (h *Hub) release(addr uint32) {
	h.open.Add(-1)
	h.addresses.give(addr)
}

func (h *Hub) tooMany(message string) api.Refusal {
	return api.Refusal{Kind: api.RefusedRate, Message: message, RetryAfter: h.retryAfter()}
}

// refusalOf returns the HTTP refusal that a verifier's error means.
func (h *Hub) refusalOf(err error) api.Refusal {
	var bad *auth.Error
	switch {
	case errors.Is(err, errClosing):
		return h.goingAway()
	case !errors.As(err, &bad):
		return api.Refusal{Kind: api.RefusedFull, Message: "tokens cannot be verified at the moment", RetryAfter: h.retryAfter()}
	case bad.Reason.Forbidden():
		return api.Refusal{Kind: api.RefusedForbidden, Message: bad.Message}
	}
	return api.Refusal{Kind: api.RefusedToken, Message: bad.Message, BadToken: true}
}
