package api

import (
	"strconv"
	"time"
)

// Welcome is the first frame of every session.
type Welcome struct {
	Session   string    // 22 base64url characters
	User      string    // the identity's claim sub
	Subjects  []string  // what the session receives
	Expires   time.Time // the token's exp
	Heartbeat time.Duration
}

// AppendWelcome appends the welcome frame.
func AppendWelcome(dst []byte, w *Welcome) []byte {
	dst = append(dst, `{"type":"welcome","session":`...)
	dst = appendString(dst, w.Session)
	dst = append(dst, `,"user":`...)
	dst = appendString(dst, w.User)
	dst = append(dst, `,"subjects":[`...)
	for i, s := range w.Subjects {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	dst = append(dst, `],"expires":"`...)
	dst = w.Expires.UTC().AppendFormat(dst, time.RFC3339)
	dst = append(dst, `","heartbeat":`...)
	dst = strconv.AppendInt(dst, int64(w.Heartbeat/time.Second), 10)
	return append(dst, '}')
}

// AppendPong appends the answer to a client's ping message.
func AppendPong(dst []byte, ref string) []byte {
	dst = append(dst, `{"type":"pong"`...)
	return append(appendRef(dst, ref), '}')
}

// AppendResumed appends how a resume went. complete is false where events may
// be missing, so that the app must reload its state.
func AppendResumed(dst []byte, complete bool, replayed int) []byte {
	dst = append(dst, `{"type":"resumed","complete":`...)
	dst = strconv.AppendBool(dst, complete)
	dst = append(dst, `,"replayed":`...)
	dst = strconv.AppendInt(dst, int64(replayed), 10)
	return append(dst, '}')
}

// AppendDrain appends the announcement of a planned close.
func AppendDrain(dst []byte, reconnectAfter time.Duration) []byte {
	dst = append(dst, `{"type":"drain","reconnect_after_ms":`...)
	dst = strconv.AppendInt(dst, reconnectAfter.Milliseconds(), 10)
	return append(dst, '}')
}

// AppendError appends the reply to a control message that could not be
// served. The session stays open.
func AppendError(dst []byte, ref string, code ErrorCode, message string) []byte {
	dst = append(dst, `{"type":"error"`...)
	dst = appendRef(dst, ref)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, string(code))
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, message)
	return append(dst, '}')
}

func appendRef(dst []byte, ref string) []byte {
	if ref == "" {
		return dst
	}
	dst = append(dst, `,"ref":`...)
	return appendString(dst, ref)
}
