package bus

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"pushgate/api"
)

// acks is what clients acknowledge: backends are told at once, and the place of
// each device is kept.
type acks struct {
	gateway string
	posted  posted
	places  *places
}

// ServeAcks makes the bus publish acknowledgements, and keep places for ttl
// after they were last kept. It must be called before Start.
func (b *Bus) ServeAcks(gateway string, ttl time.Duration) error {
	switch {
	case gateway == "":
		return errors.New("acknowledgements need the gateway's name")
	case ttl < time.Second:
		return fmt.Errorf("acknowledged places cannot be kept for %s: it must be a second at least", ttl)
	}
	b.acks = &acks{gateway: gateway, places: newPlaces(b, ttl)}
	return nil
}

// ackRoot is what acknowledgements are published under: the user follows, as
// one token.
const ackRoot = "pushgate.ack."

// ackBody is an acknowledgement as backends get it.
type ackBody struct {
	User    string `json:"user"`
	Device  string `json:"device,omitempty"`
	Session string `json:"session"`
	Cursor  string `json:"cursor"`
	Seq     uint64 `json:"seq"` // as in the answer that the backend got from JetStream
	Gateway string `json:"gateway"`
}

// Ack tells backends what a client has. It never waits: while NATS is away, or
// too many wait, it is dropped and counted.
func (b *Bus) Ack(a api.Ack) {
	if b.acks == nil {
		return
	}
	if !oneToken(a.User) {
		b.acks.posted.dropped.Add(1)
		return
	}
	b.post.send(letter{ackRoot + a.User, ackBody{
		User: a.User, Device: a.Device, Session: a.Session,
		Cursor: a.At.Cursor(), Seq: a.At.Seq, Gateway: b.acks.gateway,
	}, &b.acks.posted})
}

// oneToken reports whether a user is one token of a subject. The name of an
// issuer may stand before it, with a slash.
func oneToken(user string) bool {
	return user != "" && !strings.ContainsFunc(user, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == '.' || r == '*' || r == '>'
	})
}

// Keep remembers the place of a user's device, for every gateway. It never
// waits: the place is written a little later, and one that comes until then
// takes its place.
func (b *Bus) Keep(user, device string, at api.Position) {
	if b.acks != nil {
		b.acks.places.keep(user, device, at)
	}
}

// Place looks up what Keep has remembered, here or on another gateway. It never
// waits: done is called once, by another goroutine and within two seconds, and
// must not wait either. ok is false when no place is known or none could be
// read in time.
func (b *Bus) Place(user, device string, done func(at api.Position, ok bool)) {
	if b.acks == nil {
		go done(api.Position{}, false)
		return
	}
	b.acks.places.find(user, device, done)
}

// AckStats are the figures of acknowledgements and receipts.
type AckStats struct {
	AcksPublished, AcksDropped    int64
	PlacesKept, PlacesFailed      int64
	ReceiptsSent, ReceiptsDropped int64
}

func (b *Bus) ackStats() AckStats {
	st := AckStats{ReceiptsSent: b.receipts.sent.Load(), ReceiptsDropped: b.receipts.dropped.Load()}
	if a := b.acks; a != nil {
		st.AcksPublished, st.AcksDropped = a.posted.sent.Load(), a.posted.dropped.Load()
		st.PlacesKept, st.PlacesFailed = a.places.kept.Load(), a.places.failed.Load()
	}
	return st
}

// startAcks is Start's part of acknowledgements and receipts.
func (b *Bus) startAcks() {
	go b.post.run()
	if b.acks != nil {
		b.acks.places.start()
	}
}

// stopAcks is Close's part, while the connection is there.
func (b *Bus) stopAcks() {
	if b.acks != nil {
		b.acks.places.stop()
	}
	b.post.stop()
}
