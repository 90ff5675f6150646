package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"
)

// Format says how a payload is to be shown to clients.
type Format uint8

const (
	// FormatAuto shows valid JSON as JSON, other text as a string and the
	// rest as base64.
	FormatAuto Format = iota
	// FormatText forces a string where the payload is valid UTF-8.
	FormatText
	// FormatBinary forces base64.
	FormatBinary
)

// Event is one message for clients. It is immutable once it was handed on:
// every loop reads it at the same time.
type Event struct {
	Subject string    // literal, without its root
	ID      string    // the publisher's Nats-Msg-Id, else ce-id, else empty
	Cursor  string    // position in the stored stream; empty when not stored
	Time    time.Time // the stream's for a stored event, else the receipt's
	Format  Format
	Data    []byte // the payload as published

	Type       string      // CloudEvents' ce-type
	Trace      string      // the publisher's traceparent (W3C Trace Context)
	Attributes []Attribute // CloudEvents' others, in order of their names

	Seq      uint64    // in the stored stream; 0 when not stored
	Collapse string    // a newer event of the same subject and key replaces this one while it waits
	Expires  time.Time // not sent after it; zero: never
	Reply    string    // where a receipt is wanted; never of a stored event
}

// Attribute is one of CloudEvents' context attributes, its name without ce-.
type Attribute struct{ Name, Value string }

// Size is what an event brings that its publisher can make large, in bytes.
func (e *Event) Size() int {
	n := len(e.Data) + len(e.ID) + len(e.Type) + len(e.Trace)
	for _, a := range e.Attributes {
		n += len(a.Name) + len(a.Value)
	}
	return n
}

// AppendEvent appends the event frame: one line of valid UTF-8, whatever the
// publisher sent.
func AppendEvent(dst []byte, e *Event) []byte {
	dst = append(dst, `{"type":"event","subject":`...)
	dst = appendString(dst, e.Subject)
	if e.ID != "" {
		dst = append(dst, `,"id":`...)
		dst = appendString(dst, e.ID)
	}
	dst = appendCursor(dst, e.Cursor)
	if e.Type != "" {
		dst = append(dst, `,"event":`...)
		dst = appendString(dst, e.Type)
	}
	if e.Trace != "" {
		dst = append(dst, `,"trace":`...)
		dst = appendString(dst, e.Trace)
	}
	dst = append(dst, `,"time":"`...)
	dst = appendTime(dst, e.Time)
	dst = append(dst, '"')
	dst = appendAttributes(dst, e.Attributes)
	dst = appendData(dst, e.Format, e.Data)
	return append(dst, '}')
}

func appendAttributes(dst []byte, all []Attribute) []byte {
	if len(all) == 0 {
		return dst
	}
	dst = append(dst, `,"attributes":{`...)
	for i, a := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, a.Name), ':')
		dst = appendString(dst, a.Value)
	}
	return append(dst, '}')
}

// appendTime writes RFC 3339 in UTC with exactly three decimals, so that times
// compare as strings.
func appendTime(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}

func appendData(dst []byte, f Format, data []byte) []byte {
	// json.Valid takes invalid UTF-8 inside strings, and every browser closes
	// the connection because of it (RFC 6455 §8.1): text is checked first.
	text := f != FormatBinary && utf8.Valid(data)
	switch {
	case !text:
		dst = append(dst, `,"data_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, data)
		return append(dst, '"')
	case f == FormatAuto && json.Valid(data) && !tooDeep(data):
		dst = append(dst, `,"data":`...)
		return appendOneLine(dst, data)
	default:
		dst = append(dst, `,"data":`...)
		return appendString(dst, data)
	}
}

// maxDepth is how deep encoding/json reads; the frame is one level around the
// payload. What is deeper is shown as text, as what it cannot read at all is.
const maxDepth = 10_000 - 1

// tooDeep reports whether valid JSON is nested deeper than maxDepth.
func tooDeep(data []byte) bool {
	if len(data) <= 2*maxDepth {
		return false // each level takes two bytes
	}
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

// appendOneLine copies valid JSON without its raw line breaks. They can stand
// only between tokens, where they mean nothing.
func appendOneLine(dst, data []byte) []byte {
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return append(dst, data...)
	}
	for _, c := range data {
		if c != '\n' && c != '\r' {
			dst = append(dst, c)
		}
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD; what is valid goes through unescaped but for what JSON demands.
func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := decodeRune(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\uFFFD"...)
				start = i + n
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func decodeRune[S string | []byte](s S) (rune, int) {
	var head [utf8.UTFMax]byte
	n := copy(head[:], s)
	return utf8.DecodeRune(head[:n])
}
