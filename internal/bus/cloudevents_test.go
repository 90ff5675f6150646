package bus

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"pushgate/api"
)

func TestCloudEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		header nats.Header
		want   api.Event
	}{
		"none":  {nats.Header{"Nats-Msg-Id": {"m-1"}}, api.Event{ID: "m-1"}},
		"trace": {nats.Header{"traceparent": {"00-1-2-01"}}, api.Event{Trace: "00-1-2-01"}},
		"all": {
			nats.Header{"ce-id": {"c-1"}, "ce-type": {"paid"}, "ce-source": {"/orders"}, "ce-specversion": {"1.0"}, "ce-subject": {"x"}},
			api.Event{ID: "c-1", Type: "paid", Attributes: []api.Attribute{{Name: "source", Value: "/orders"}, {Name: "specversion", Value: "1.0"}, {Name: "subject", Value: "x"}}},
		},
		"the message's own id wins": {nats.Header{"Nats-Msg-Id": {"m-1"}, "ce-id": {"c-1"}}, api.Event{ID: "m-1"}},
		"any case":                  {nats.Header{"Ce-Id": {"c-1"}, "CE-Type": {"paid"}, "cE-Source": {"s"}}, api.Event{ID: "c-1", Type: "paid", Attributes: []api.Attribute{{Name: "source", Value: "s"}}}},
		"others that look alike":    {nats.Header{"ce-": {"x"}, "cex-id": {"x"}, "ce": {"x"}, "ce_id": {"x"}}, api.Event{}},
		"an empty list":             {nats.Header{"ce-id": {}, "ce-source": nil}, api.Event{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := api.Event{Time: time.Now()}
			readHeader(&e, tc.header)
			if e.ID != tc.want.ID || e.Type != tc.want.Type || e.Trace != tc.want.Trace || !slices.Equal(e.Attributes, tc.want.Attributes) {
				t.Errorf("got %+v, want %+v", e, tc.want)
			}
		})
	}
}
