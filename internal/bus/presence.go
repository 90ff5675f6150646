package bus

import "pushgate/api"

// Came tells backends that a session stands. It never waits, nor does Went:
// while NATS is away, or too many wait, they are dropped and counted.
func (b *Bus) Came(p api.Presence) { b.present("connected", p) }

// Went tells them that it ended.
func (b *Bus) Went(p api.Presence) { b.present("disconnected", p) }

func (b *Bus) present(what string, p api.Presence) {
	p.Gateway = b.gateway()
	b.post.send(letter{"pushgate.presence." + what, p, &b.presence})
}
