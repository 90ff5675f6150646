package api

import "time"

// What follows is what gateways tell operators and backends over NATS about
// sessions: answers of the control service, and presence. Its JSON is part of
// the contract.

// SessionInfo is one session as the control service shows it.
type SessionInfo struct {
	Session   string    `json:"session"`
	User      string    `json:"user"`
	Transport string    `json:"transport"`
	Subjects  []string  `json:"subjects"`
	Expires   time.Time `json:"expires"`            // of its token
	Connected time.Time `json:"connected,omitzero"` // as far back as the flight recorder reaches
	Waiting   int       `json:"waiting,omitempty"`  // bytes that its socket does not take yet
	Behind    bool      `json:"behind,omitempty"`   // it is still being given what it missed
}

// Presence says that a session came or went. Reason is its transport when it
// came, the label of its ending when it went.
type Presence struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Gateway string `json:"gateway"`
	Reason  string `json:"reason"`
}

// Figures are the main figures of a gateway.
type Figures struct {
	Gateway    string           `json:"gateway"`
	Version    string           `json:"version"`
	Uptime     int64            `json:"uptime_seconds"`
	Draining   bool             `json:"draining"`
	Sessions   int64            `json:"sessions"`
	Transports map[string]int64 `json:"transports"`
	Handshakes map[string]int64 `json:"handshakes"`
	Closes     map[string]int64 `json:"closes"`
	Events     int64            `json:"events"`
	Deliveries int64            `json:"deliveries"`
	Drops      map[string]int64 `json:"drops"`
	Outbox     int64            `json:"outbox_bytes"`
	Reconnects int64            `json:"nats_reconnects"`
	Waiting    int              `json:"nats_waiting"`
}

// WhyRequest asks why a user did not get an event, or what became of the user
// lately. The bus adds what it knows itself.
type WhyRequest struct {
	User, ID string
	Away     []Outage // the last times that NATS was away from this gateway
	Dropped  int64    // messages that the NATS client had no room for
}

// Outage is a time without NATS; To is zero while it lasts.
type Outage struct{ From, To time.Time }

// Why is a gateway's answer. Since is how far back the gateway remembers.
type Why struct {
	Gateway  string        `json:"gateway"`
	User     string        `json:"user"`
	ID       string        `json:"id,omitempty"`
	Online   bool          `json:"online"`
	Since    time.Time     `json:"since,omitzero"`
	Sessions []SessionInfo `json:"sessions"`
	History  []Happening   `json:"history"`
	Verdict  string        `json:"verdict"`
}

// Happening is one thing that the flight recorder remembers.
type Happening struct {
	Time    time.Time `json:"time"`
	What    string    `json:"what"`
	Subject string    `json:"subject,omitempty"`
	ID      string    `json:"id,omitempty"`
	Seq     uint64    `json:"seq,omitempty"`
	Session string    `json:"session,omitempty"`
	Count   int       `json:"count,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}
