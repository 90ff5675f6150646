package main

import (
	"context"
	"strconv"
	"testing"

	"pushgate/examples/visit"
)

func TestPrices(t *testing.T) {
	e := visit.Start(t, func(ctx context.Context, ready func(string)) error { return serve(ctx, "127.0.0.1:0", ready) })
	// All four are there after the first price of the last one.
	first := e.Login("guest", "subject=prices.XAUUSD")
	first.Next("event")
	late := e.Login("guest", "")
	late.Say(`{"type":"subscribe","ref":"1","subject":"prices.>","from":"last"}`)
	seen := map[string]bool{}
	for live := false; len(seen) < 4 || !live; {
		f := late.Next("event")
		if f.Replay && live {
			t.Errorf("the past comes after the present: %+v", f)
		}
		live = !f.Replay
		seen[f.Subject] = true
		if price, err := strconv.ParseFloat(string(f.Data), 64); err != nil || price <= 0 {
			t.Errorf("%s is at %s", f.Subject, f.Data)
		}
	}
}
