package api

// Reason is why a session ended: its close code, its metric label and its log
// field at once. Every session ends with exactly one.
type Reason uint8

// The endings.
const (
	ReasonNone         Reason = iota // still open
	ReasonClient                     // the client closed; its own code is echoed
	ReasonLost                       // the connection vanished without a close frame
	ReasonDrain                      // the gateway goes away, planned
	ReasonProtocol                   // RFC 6455 was broken
	ReasonBinary                     // a binary message, which no client may send
	ReasonUTF8                       // text that is not UTF-8
	ReasonInflate                    // a compressed message that cannot be read
	ReasonFlood                      // more messages a second than anybody needs
	ReasonTooLarge                   // a message over limits.message_bytes
	ReasonDisconnected               // a backend asked for it
	ReasonRevoked                    // a backend revoked the user's tokens
	ReasonReplaced                   // the user's session limit made room for a newer one
	ReasonOtherUser                  // a renewal as somebody else
	ReasonSlow                       // outbox over its limit
	ReasonHeartbeat                  // silent for too long
	ReasonOverload                   // shed to protect the rest
	ReasonExpired                    // the token's exp has come
	reasonCount
)

var reasons = [reasonCount]struct {
	code  uint16
	label string
	text  string
}{
	ReasonNone:         {0, "none", ""},
	ReasonClient:       {1000, "client", ""},
	ReasonLost:         {1006, "lost", ""},
	ReasonDrain:        {1001, "drain", "going away"},
	ReasonProtocol:     {1002, "protocol_error", "protocol error"},
	ReasonBinary:       {1003, "binary", "binary messages are not taken"},
	ReasonUTF8:         {1007, "bad_utf8", "text was not valid UTF-8"},
	ReasonInflate:      {1007, "bad_deflate", "compressed data was not valid"},
	ReasonFlood:        {1008, "too_many_messages", "too many messages"},
	ReasonTooLarge:     {1009, "too_large", "message too large"},
	ReasonDisconnected: {4000, "disconnected", "disconnected by the backend"},
	ReasonRevoked:      {4000, "revoked", "revoked by the backend"},
	ReasonReplaced:     {4001, "replaced", "replaced by a newer session"},
	ReasonOtherUser:    {4002, "other_user", "renewed as another user"},
	ReasonSlow:         {4100, "slow_consumer", "slow consumer"},
	ReasonHeartbeat:    {4101, "heartbeat", "heartbeat missed"},
	ReasonOverload:     {4102, "overloaded", "overloaded"},
	ReasonExpired:      {4200, "expired", "token expired"},
}

// Reasons are all endings, so that their counters can be made at zero.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := ReasonNone + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}

// Code is the WebSocket close code (RFC 6455 §7.4 and the contract's 4xxx).
func (r Reason) Code() uint16 { return reasons[r].code }

// String is the metric label and log field.
func (r Reason) String() string { return reasons[r].label }

// Text is the close frame's reason: one plain English phrase.
func (r Reason) Text() string { return reasons[r].text }
