package main

import (
	"time"

	"pushgate/api"
	"pushgate/internal/session"
)

// inspected is what operators ask the control service about.
type inspected struct {
	*session.Hub
	g     *gateway
	began time.Time
}

// Figures are the hub's; the bus adds its own.
func (i inspected) Figures() api.Figures {
	st := i.Stats()
	return api.Figures{
		Uptime: int64(time.Since(i.began) / time.Second), Draining: i.g.draining.Load(),
		Sessions: st.Sessions, Transports: st.Transports, Handshakes: st.Handshakes, Closes: st.Closes,
		Events: st.Events, Deliveries: st.Deliveries, Drops: st.Drops, Outbox: st.Outbox,
	}
}

// SetLevel sets the log's level.
func (i inspected) SetLevel(level string, hold time.Duration) (was, now string) {
	return i.g.level.set(level, hold)
}
