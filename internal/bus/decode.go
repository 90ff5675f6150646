package bus

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"pushgate/api"
)

// event turns a message into an event. The event owns the payload: the client
// library made a copy for it.
func event(root int, subject string, m *nats.Msg, now time.Time) api.Event {
	e := api.Event{Subject: subject, Time: now, Data: m.Data}
	// A reply to what is stored is JetStream's. And nobody may make a gateway
	// publish to the server's own subjects, such as JetStream's API: it may be
	// allowed more than who asks.
	if root == flashRoot && !strings.HasPrefix(m.Reply, "$") {
		e.Reply = m.Reply
	}
	readHeader(&e, m.Header)
	return e
}

// readHeader reads what a publisher says of an event. Its time must be set.
func readHeader(e *api.Event, h nats.Header) {
	if len(h) == 0 {
		return
	}
	e.ID = h.Get("Nats-Msg-Id")
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "text/plain":
		e.Format = api.FormatText
	case "application/octet-stream":
		e.Format = api.FormatBinary
	}
	e.Collapse, e.Trace = h.Get("Push-Collapse"), h.Get("traceparent")
	readCloudEvent(e, h)
	if text := h.Get("Push-TTL"); text != "" { // the error of none would be allocated
		// A time that cannot be read is none: the event is not held back for it.
		if ttl, err := time.ParseDuration(text); err == nil && ttl > 0 {
			e.Expires = e.Time.Add(ttl)
		}
	}
}

// cloudEvents is what the headers of CloudEvents begin with, in any case
// (CloudEvents, NATS protocol binding, binary mode).
const cloudEvents = "ce-"

// readCloudEvent reads what is not read of a CloudEvent elsewhere.
func readCloudEvent(e *api.Event, h nats.Header) {
	for name, values := range h {
		if len(name) <= len(cloudEvents) || name[2] != '-' || !strings.EqualFold(name[:len(cloudEvents)], cloudEvents) || len(values) == 0 {
			continue
		}
		switch name = strings.ToLower(name[len(cloudEvents):]); name {
		case "id":
			if e.ID == "" {
				e.ID = values[0]
			}
		case "type":
			e.Type = values[0]
		default:
			e.Attributes = append(e.Attributes, api.Attribute{Name: name, Value: values[0]})
		}
	}
	if len(e.Attributes) > 1 {
		slices.SortFunc(e.Attributes, func(a, b api.Attribute) int { return strings.Compare(a.Name, b.Name) })
		e.Attributes = slices.CompactFunc(e.Attributes, func(a, b api.Attribute) bool { return a.Name == b.Name })
	}
}

var errNotStored = errors.New("the message does not come from the stream")

// storedEvent turns a message of the stream into an event: a republished copy,
// or the answer to a direct get. subject is the event's, without its root.
// forged says that somebody else has written headers that are the server's: the
// server appends its own, so the last ones are right.
//
// These are Nats-Stream, Nats-Subject, Nats-Sequence and Nats-Time-Stamp (NATS
// docs, RePublish and Direct Get).
func storedEvent(subject, stream string, m *nats.Msg) (e api.Event, forged bool, err error) {
	name, forged := lastValue(m.Header, "Nats-Stream", false)
	number, forged := lastValue(m.Header, "Nats-Sequence", forged)
	stamp, forged := lastValue(m.Header, "Nats-Time-Stamp", forged)
	if name != stream {
		return e, forged, errNotStored
	}
	e = api.Event{Subject: subject, Data: m.Data}
	if e.Seq, err = strconv.ParseUint(number, 10, 63); err != nil || e.Seq == 0 {
		return e, forged, errNotStored
	}
	if e.Time, err = time.Parse(time.RFC3339Nano, stamp); err != nil {
		return e, forged, errNotStored
	}
	readHeader(&e, m.Header)
	return e, forged, nil
}

// lastValue is the last of a header's values; several have been forged, unless
// some were already.
func lastValue(h nats.Header, name string, already bool) (value string, forged bool) {
	all := h[name]
	if len(all) == 0 {
		return "", already
	}
	return all[len(all)-1], already || len(all) > 1
}
