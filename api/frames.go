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
	Cursor    string // where the session begins; empty where the client brought its own, or without a stream
}

// AppendWelcome appends the welcome frame.
func AppendWelcome(dst []byte, w *Welcome) []byte {
	dst = append(dst, `{"type":"welcome","session":`...)
	dst = appendString(dst, w.Session)
	dst = append(dst, `,"user":`...)
	dst = appendString(dst, w.User)
	dst = appendSubjects(dst, w.Subjects)
	dst = appendExpires(dst, w.Expires)
	dst = append(dst, `,"heartbeat":`...)
	dst = strconv.AppendInt(dst, int64(w.Heartbeat/time.Second), 10)
	return append(appendCursor(dst, w.Cursor), '}')
}

func appendSubjects(dst []byte, subjects []string) []byte {
	dst = append(dst, `,"subjects":[`...)
	for i, s := range subjects {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

func appendExpires(dst []byte, at time.Time) []byte {
	dst = append(dst, `,"expires":"`...)
	dst = at.UTC().AppendFormat(dst, time.RFC3339)
	return append(dst, '"')
}

// AppendSubscribed appends the reply to a subscribe that was granted: events of
// the subject come from now on.
func AppendSubscribed(dst []byte, ref, subject string) []byte {
	return appendSubjectFrame(dst, "subscribed", ref, subject)
}

// AppendUnsubscribed appends the reply to an unsubscribe; without ref it is the
// notice that a renewed token no longer grants the subject.
func AppendUnsubscribed(dst []byte, ref, subject string) []byte {
	return appendSubjectFrame(dst, "unsubscribed", ref, subject)
}

func appendSubjectFrame(dst []byte, kind, ref, subject string) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, kind...)
	dst = appendRef(append(dst, '"'), ref)
	dst = append(dst, `,"subject":`...)
	return append(appendString(dst, subject), '}')
}

// AppendRenewed appends the reply to a renew: until when the session lasts now,
// and what it receives.
func AppendRenewed(dst []byte, ref string, expires time.Time, subjects []string) []byte {
	dst = append(dst, `{"type":"renewed"`...)
	dst = appendRef(dst, ref)
	dst = appendExpires(dst, expires)
	return append(appendSubjects(dst, subjects), '}')
}

// AppendPong appends the answer to a client's ping message. cursor is the place
// up to which the session has everything, empty without a stream.
func AppendPong(dst []byte, ref, cursor string) []byte {
	dst = append(dst, `{"type":"pong"`...)
	return append(appendCursor(appendRef(dst, ref), cursor), '}')
}

// Resumed is how a replay went.
type Resumed struct {
	Ref      string // of the subscribe; empty for the whole session
	Complete bool   // false: events may be missing, the app must reload its state
	Replayed int    // events
	Cursor   string // the place reached; empty without a stream
}

// AppendResumed appends the end of a replay, or the notice that there is a gap.
func AppendResumed(dst []byte, r *Resumed) []byte {
	dst = append(dst, `{"type":"resumed"`...)
	dst = appendRef(dst, r.Ref)
	dst = append(dst, `,"complete":`...)
	dst = strconv.AppendBool(dst, r.Complete)
	dst = append(dst, `,"replayed":`...)
	dst = strconv.AppendInt(dst, int64(r.Replayed), 10)
	return append(appendCursor(dst, r.Cursor), '}')
}

// AppendDropped appends the notice that a policy dropped events of a subject,
// because the client reads too slowly. It stands where the gap is.
func AppendDropped(dst []byte, subject string, count int) []byte {
	dst = append(dst, `{"type":"dropped","subject":`...)
	dst = appendString(dst, subject)
	dst = append(dst, `,"count":`...)
	return append(strconv.AppendInt(dst, int64(count), 10), '}')
}

// AppendDrain appends the announcement of a planned close. cursor is as in a
// pong.
func AppendDrain(dst []byte, reconnectAfter time.Duration, cursor string) []byte {
	dst = append(dst, `{"type":"drain","reconnect_after_ms":`...)
	dst = strconv.AppendInt(dst, reconnectAfter.Milliseconds(), 10)
	return append(appendCursor(dst, cursor), '}')
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

func appendCursor(dst []byte, cursor string) []byte {
	if cursor == "" {
		return dst
	}
	dst = append(dst, `,"cursor":`...)
	return appendString(dst, cursor)
}

func appendRef(dst []byte, ref string) []byte {
	if ref == "" {
		return dst
	}
	dst = append(dst, `,"ref":`...)
	return appendString(dst, ref)
}
