package bus

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"pushgate/api"
)

// Inspected is what operators ask about: the gateway's own. Its methods are
// called from several goroutines and must not wait for a client.
type Inspected interface {
	// SessionsOf describes a user's sessions, at most so many.
	SessionsOf(user string, most int) (list []api.SessionInfo, more bool)
	// Online returns those of some users who are here.
	Online(users []string) []string
	// Why tells what is known of a user, and of an event.
	Why(q api.WhyRequest) api.Why
	// Figures are the main figures.
	Figures() api.Figures
	// SetLevel sets the log's level, for a time or, with 0, until it is set
	// again, and returns the one before and the one that holds now. Without a
	// level it changes nothing.
	SetLevel(level string, hold time.Duration) (was, now string)
}

// maxSessions is how many sessions of a user are listed.
const maxSessions = 1000

func (c *control) serveInspected() error {
	if c.Inspected == nil {
		return nil
	}
	endpoints := map[string]func(micro.Request) error{
		"sessions": c.sessions, "stats": c.stats, "loglevel": c.logLevel, "why": c.why,
	}
	for name, handle := range endpoints {
		if err := c.service.AddEndpoint(name, c.handler(handle), micro.WithEndpointSubject("pushgate.control."+name)); err != nil {
			return err
		}
	}
	if !c.Presence {
		return nil
	}
	return c.service.AddEndpoint("presence", c.handler(c.online), micro.WithEndpointSubject("pushgate.presence.users"))
}

// listing is a gateway's answer about one user; each session is JSON already.
type listing struct {
	Gateway  string            `json:"gateway"`
	Sessions []json.RawMessage `json:"sessions"`
	More     bool              `json:"more,omitempty"`
}

// counts is its answer about all.
type counts struct {
	Gateway    string           `json:"gateway"`
	Sessions   int64            `json:"sessions"`
	Transports map[string]int64 `json:"transports"`
}

func (c *control) sessions(r micro.Request) error {
	q, err := parseRequest(r.Data(), "user")
	if err != nil {
		return err
	}
	if q.user == "" {
		f := c.Inspected.Figures()
		return c.answer(r, counts{c.Gateway, f.Sessions, f.Transports})
	}
	return c.answer(r, c.list(q.user))
}

// list is as many of a user's sessions as an answer can hold.
func (c *control) list(user string) listing {
	all, more := c.Inspected.SessionsOf(user, maxSessions)
	answer := listing{Gateway: c.Gateway, Sessions: []json.RawMessage{}, More: more}
	room := c.room()
	for i := range all {
		text, err := json.Marshal(&all[i])
		if room -= len(text) + 1; err != nil || room < 0 {
			answer.More = true
			break
		}
		answer.Sessions = append(answer.Sessions, text)
	}
	return answer
}

// room is how many bytes of a list an answer can hold.
func (c *control) room() int { return int(c.b.conn.MaxPayload()) - 1024 }

func (c *control) stats(r micro.Request) error {
	if _, err := parseRequest(r.Data()); err != nil {
		return err
	}
	f, st := c.Inspected.Figures(), c.b.Stats()
	f.Gateway, f.Version, f.Reconnects, f.Waiting = c.Gateway, c.Version, st.Reconnects, st.Waiting
	return c.answer(r, f)
}

// levelReply says which level holds; For is for how long, where that is known.
type levelReply struct {
	Gateway string `json:"gateway"`
	Level   string `json:"level"`
	Was     string `json:"was"`
	For     string `json:"for,omitempty"`
}

func (c *control) logLevel(r micro.Request) error {
	q, err := parseLogLevel(r.Data())
	if err != nil {
		return err
	}
	was, now := c.Inspected.SetLevel(q.level, q.hold)
	answer := levelReply{Gateway: c.Gateway, Level: now, Was: was}
	if q.hold > 0 {
		answer.For = q.hold.String()
	}
	return c.answer(r, answer)
}

func (c *control) why(r micro.Request) error {
	q, err := parseWhy(r.Data())
	if err != nil {
		return err
	}
	answer := c.Inspected.Why(api.WhyRequest{User: q.user, ID: q.id, Away: c.b.outages.last(), Dropped: c.b.Stats().Dropped})
	answer.Gateway = c.Gateway
	// What is oldest goes first where it is too much.
	for len(answer.History) > 0 || len(answer.Sessions) > 0 {
		if text, err := json.Marshal(answer); err == nil && len(text) <= c.room() {
			break
		}
		answer.History = answer.History[(len(answer.History)+1)/2:]
		answer.Sessions = answer.Sessions[:len(answer.Sessions)/2]
	}
	return c.answer(r, answer)
}

// onlineReply is who of some users is here.
type onlineReply struct {
	Gateway string   `json:"gateway"`
	Online  []string `json:"online"`
}

func (c *control) online(r micro.Request) error {
	q, err := parseUsers(r.Data())
	if err != nil {
		return err
	}
	return c.answer(r, onlineReply{c.Gateway, c.Inspected.Online(q.users)})
}

// answer sends a reply to whoever wants one.
func (c *control) answer(r micro.Request, body any) error {
	if r.Reply() == "" {
		return nil
	}
	return r.RespondJSON(body)
}

// outages are the last times without NATS.
type outages struct {
	mu   sync.Mutex
	past []api.Outage
}

const maxOutages = 16

// over notes one that began at a Unix time in nanoseconds; 0 is none.
func (o *outages) over(began int64, now time.Time) {
	if began == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.past) == maxOutages {
		o.past = slices.Delete(o.past, 0, 1)
	}
	o.past = append(o.past, api.Outage{From: time.Unix(0, began), To: now})
}

func (o *outages) last() []api.Outage {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.past)
}
