package api

import (
	"errors"
	"strconv"
	"strings"
)

// Position is a place in a stored stream: everything up to and including Seq.
type Position struct {
	Stream string // the stream's identity: a name made anew has another one
	Seq    uint64
}

// Cursor is the position as clients keep it, "" for none. It is opaque to
// them.
func (p Position) Cursor() string {
	if p.Stream == "" {
		return ""
	}
	var room [maxStreamID + 21]byte // so that only the string is allocated
	b := append(room[:0], p.Stream...)
	b = append(b, '.')
	return string(strconv.AppendUint(b, p.Seq, 10))
}

// maxStreamID bounds a stream's identity in a cursor.
const maxStreamID = 32

// ParseCursor reads what Cursor has made. It is false for anything else.
func ParseCursor(s string) (Position, bool) {
	stream, seq, ok := strings.Cut(s, ".")
	if !ok || stream == "" || len(stream) > maxStreamID || strings.Trim(stream, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return Position{}, false
	}
	n, err := strconv.ParseUint(seq, 10, 63)
	// One spelling for each position.
	return Position{stream, n}, err == nil && strconv.FormatUint(n, 10) == seq
}

// Ack is a client's word that it has everything up to a place.
type Ack struct {
	User, Session string
	Device        string // as the client calls it; may be empty
	At            Position
}

// Fetch asks for stored events that are not in memory any more.
type Fetch struct {
	Stream   string   // the identity that is meant; of another one ErrOtherStream
	Subjects []string // patterns without the root; an event that meets several comes once
	After    uint64   // sequences: those behind it,
	Through  uint64   // up to this one
	Bytes    int      // of payload and EventOverhead, about; one event at least
	Last     bool     // only the newest event of each subject, as of Through; Bytes does not count
}

// EventOverhead is what an event's frame is reckoned to have beside its payload,
// in bytes.
const EventOverhead = 128

// Page is what a Fetch has brought.
type Page struct {
	Events  []Event // in stream order, with Seq and Cursor
	Through uint64  // all that was asked for up to here is there; at the end the Fetch's own
	Trimmed bool    // the stream does not reach back to After any more
}

var (
	// ErrOtherStream says that the stream was made anew meanwhile.
	ErrOtherStream = errors.New("the stream is another one now")
	// ErrTooMany says that more subjects match a Fetch with Last than can be
	// looked up: 1,024.
	ErrTooMany = errors.New("too many subjects match")
)
