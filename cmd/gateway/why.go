package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"pushgate/api"
)

type whyCommand struct {
	asking
	User string `required:"" placeholder:"USER" help:"Who did not get it; with several issuers name/sub."`
	ID   string `name:"id" placeholder:"ID" help:"The event's Nats-Msg-Id or ce-id; without it the user's history is told."`
	JSON bool   `name:"json" help:"Print the answers as they are, a line each."`
}

func (*whyCommand) Help() string {
	return `Asks all gateways over NATS what became of an event for a user: each says it in a sentence, and what that rests on.
They remember the last moments only (flight.events): ask soon, and publish with a Nats-Msg-Id.

    gateway why --user alice
    gateway why --user alice --id m-1 --nats.url nats://nats:4222`
}

func (c *whyCommand) Run(s *invocation) error {
	request := map[string]any{"user": c.User}
	if c.ID != "" {
		request["id"] = c.ID
	}
	if c.JSON {
		return c.lines(s, "why", request)
	}
	return c.ask(s, "why", request, func(data []byte) error {
		var w api.Why
		if err := json.Unmarshal(data, &w); err != nil {
			return fmt.Errorf("a gateway's answer is not understood: %w", err)
		}
		_, err := fmt.Fprint(s.stdout, readable(&w))
		return err
	})
}

// readable is an answer as people read it: the cause first.
func readable(w *api.Why) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%s: %s.\n", w.Gateway, w.Verdict)
	for _, s := range w.Sessions {
		_, _ = fmt.Fprintf(&b, "  session %s  %s  %s", s.Session, s.Transport, strings.Join(s.Subjects, " "))
		if s.Waiting > 0 {
			_, _ = fmt.Fprintf(&b, "  %d bytes wait", s.Waiting)
		}
		b.WriteByte('\n')
	}
	for _, h := range w.History {
		fields := []string{h.Time.Format("15:04:05.000"), fmt.Sprintf("%-12s", h.What)}
		for _, f := range []string{h.Subject, h.ID, h.Session, h.Reason} {
			if f != "" {
				fields = append(fields, f)
			}
		}
		if h.Count > 0 {
			fields = append(fields, fmt.Sprintf("×%d", h.Count))
		}
		_, _ = fmt.Fprintf(&b, "  %s\n", strings.Join(fields, "  "))
	}
	return b.String()
}
