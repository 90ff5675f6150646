package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/coder/websocket"

	"pushgate/api"
)

// frame is what these clients read of any frame.
type frame struct {
	Type     string  `json:"type"`
	Subject  string  `json:"subject"`
	Cursor   string  `json:"cursor"`
	Complete bool    `json:"complete"`
	Replayed int     `json:"replayed"`
	Count    int     `json:"count"`
	After    int     `json:"reconnect_after_ms"`
	Code     string  `json:"code"`
	Data     payload `json:"data"`

	at api.Position // of Cursor
}

// payload is every event's data.
type payload struct {
	N   uint64 `json:"n"`
	Pad string `json:"pad,omitempty"`
}

// readFrame reads the next one.
func readFrame(ctx context.Context, conn *websocket.Conn) (*frame, error) {
	_, b, err := conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	var f frame
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("the frame %.200q: %w", b, err)
	}
	if f.Cursor != "" {
		var ok bool
		if f.at, ok = api.ParseCursor(f.Cursor); !ok {
			return nil, fmt.Errorf("the cursor %q", f.Cursor)
		}
	}
	return &f, nil
}

// dial connects, with a cursor where there is one. Its caller closes the
// connection.
func dial(ctx context.Context, addr, token, cursor string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	target := "ws://" + addr + "/v1/ws"
	if cursor != "" {
		target += "?cursor=" + url.QueryEscape(cursor)
	}
	conn, _, err := websocket.Dial(ctx, target, &websocket.DialOptions{ //nolint:bodyclose // the package says: you never need to
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(1 << 20)
	return conn, nil
}
