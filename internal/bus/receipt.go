package bus

// receipt tells a backend who has delivered its event, and how often.
type receipt struct {
	Gateway   string `json:"gateway"`
	Delivered int    `json:"delivered"`
}

// Receipt answers an event that wanted a receipt, with how many sessions it was
// given to here. It never waits: while NATS is away, or too many wait, it is
// dropped and counted.
func (b *Bus) Receipt(reply string, delivered int) {
	b.post.send(letter{reply, receipt{b.gateway(), delivered}, &b.receipts})
}

// gateway is this gateway's name in what it publishes.
func (b *Bus) gateway() string {
	switch {
	case b.acks != nil:
		return b.acks.gateway
	case b.control != nil:
		return b.control.Gateway
	}
	return b.cfg.Name
}
