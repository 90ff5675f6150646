package api

import "strconv"

// Polled is the answer to a poll.
type Polled struct {
	Events   [][]byte // their frames, in order
	Cursor   string   // where the next poll goes on
	Complete bool     // false: events may be missing, the app must reload its state
	More     bool     // there is more behind the cursor already
}

// AppendPolled appends the answer's body.
func AppendPolled(dst []byte, p *Polled) []byte {
	dst = append(dst, `{"events":[`...)
	for i, e := range p.Events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, e...)
	}
	dst = append(dst, ']')
	dst = appendCursor(dst, p.Cursor)
	dst = append(dst, `,"complete":`...)
	dst = strconv.AppendBool(dst, p.Complete)
	dst = append(dst, `,"more":`...)
	dst = strconv.AppendBool(dst, p.More)
	return append(dst, '}', '\n')
}

// AppendPollAnswer appends the whole HTTP/1.1 answer with a body. The connection
// takes further requests, unless last says that it ends.
func AppendPollAnswer(dst, body []byte, cors CORS, last bool) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\nCache-Control: no-store\r\n"...)
	if last {
		dst = append(dst, "Connection: close\r\n"...)
	}
	dst = AppendCORS(dst, cors)
	dst = append(dst, "\r\n"...)
	return append(dst, body...)
}

// AppendEventStreamHead appends the head of an answer of server-sent events,
// which come in chunks behind it (RFC 9112 §7.1). Proxies are told not to
// collect them.
func AppendEventStreamHead(dst []byte, cors CORS) []byte {
	dst = append(dst, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"+
		"Cache-Control: no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\n"...)
	return append(AppendCORS(dst, cors), "\r\n"...)
}
