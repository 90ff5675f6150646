package api

import (
	"encoding/json"
	"strconv"
)

// Server-sent events (WHATWG HTML, "Server-sent events"): what a message on the
// stream looks like. Events are unnamed, so that a plain EventSource gets them
// in onmessage; the other frames have their type for a name.

// AppendSSEEvent appends an event frame. Its cursor becomes the client's last
// event id; an event without one leaves that as it is.
func AppendSSEEvent(dst []byte, cursor string, frame []byte) []byte {
	dst = appendSSEID(dst, cursor)
	dst = append(dst, "data: "...)
	dst = append(dst, frame...)
	return append(dst, "\n\n"...)
}

// AppendSSEControl appends any other frame. A place that it holds becomes the
// last event id; a drain says in retry when to come back.
func AppendSSEControl(dst []byte, frame []byte) []byte {
	var head struct {
		Type   string `json:"type"`
		Cursor string `json:"cursor"`
		After  *int64 `json:"reconnect_after_ms"`
	}
	// The frames are this package's own.
	_ = json.Unmarshal(frame, &head)
	dst = append(dst, "event: "...)
	dst = append(dst, head.Type...)
	dst = append(dst, '\n')
	if head.After != nil {
		dst = append(dst, "retry: "...)
		dst = strconv.AppendInt(dst, *head.After, 10)
		dst = append(dst, '\n')
	}
	return AppendSSEEvent(dst, head.Cursor, frame)
}

// AppendSSEHeartbeat appends what keeps the stream alive: an id alone moves the
// client's place and is no event to it; without a stored stream a comment.
func AppendSSEHeartbeat(dst []byte, cursor string) []byte {
	if cursor == "" {
		return append(dst, ":\n\n"...)
	}
	return append(appendSSEID(dst, cursor), '\n')
}

// AppendSSEClose appends the last message, which a close frame is elsewhere.
func AppendSSEClose(dst []byte, code uint16, reason string) []byte {
	dst = append(dst, "event: close\ndata: {\"code\":"...)
	dst = strconv.AppendUint(dst, uint64(code), 10)
	dst = append(dst, `,"reason":`...)
	dst = appendString(dst, reason)
	return append(dst, "}\n\n"...)
}

func appendSSEID(dst []byte, cursor string) []byte {
	if cursor == "" {
		return dst
	}
	dst = append(dst, "id: "...)
	dst = append(dst, cursor...)
	return append(dst, '\n')
}
