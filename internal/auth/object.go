package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
)

var (
	errNotObject = errors.New("not a JSON object")
	errTwice     = errors.New("a key stands twice")
)

// visit calls f with each member of obj, in order: the unquoted key and the raw
// value. obj must be valid JSON. A key that stands twice is an error, however
// it is spelled.
//
// encoding/json is not used for objects because it matches struct fields
// without regard to case and lets the last of two equal keys win: two parsers
// of one token would then see two users.
func visit(obj []byte, f func(key, value []byte)) error {
	i := skipSpace(obj, 0)
	if i == len(obj) || obj[i] != '{' {
		return errNotObject
	}
	var seen keySet
	for i++; ; {
		i = skipSpace(obj, i)
		switch obj[i] {
		case '}':
			return nil
		case ',':
			i = skipSpace(obj, i+1)
		}
		end := valueEnd(obj, i)
		key := unquoteKey(obj[i:end])
		if !seen.add(key) {
			return errTwice
		}
		i = skipSpace(obj, end) + 1 // the colon
		i = skipSpace(obj, i)
		end = valueEnd(obj, i)
		f(key, obj[i:end])
		i = end
	}
}

// elements calls f with each raw element of the valid JSON array.
func elements(array []byte, f func(value []byte) bool) {
	for i := 1; ; {
		i = skipSpace(array, i)
		switch array[i] {
		case ']':
			return
		case ',':
			i = skipSpace(array, i+1)
		}
		end := valueEnd(array, i)
		if !f(array[i:end]) {
			return
		}
		i = end
	}
}

// keySet finds a repeated key. A handful is compared one by one; a header made
// of thousands of keys must not cost their square.
type keySet struct {
	few  [12][]byte
	n    int
	many map[string]struct{}
}

func (s *keySet) add(key []byte) bool {
	for _, k := range s.few[:s.n] {
		if bytes.Equal(k, key) {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = key
		s.n++
		return true
	}
	if s.many == nil {
		s.many = make(map[string]struct{})
	}
	before := len(s.many)
	s.many[string(key)] = struct{}{}
	return len(s.many) > before
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd is the index behind the value that starts at i.
func valueEnd(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth <= 1 {
				return i + depth // behind our own bracket, before that of the parent
			}
			depth--
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

func unquoteKey(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	s, _ := text(raw)
	return []byte(s)
}

// text is the value of a JSON string; ok is false for every other value.
func text(raw []byte) (s string, ok bool) {
	if raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// scalar is a claim as it may land in a subject: a string, or an integer as it
// is written, so that a large one is not rounded into somebody else's.
func scalar(raw []byte) (string, bool) {
	if s, ok := text(raw); ok {
		return s, true
	}
	digits := bytes.TrimPrefix(raw, []byte("-"))
	if len(digits) == 0 || len(raw) == 2 && string(raw) == "-0" {
		return "", false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	return string(raw), true
}

// seconds is a NumericDate (RFC 7519 §2), rounded down. Values that a float
// cannot hold exactly are no dates, and would overflow time arithmetic.
func seconds(raw []byte) (int64, bool) {
	const limit = 1 << 53
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || math.Abs(f) > limit {
			return 0, false
		}
		n = int64(math.Floor(f))
	}
	return n, n >= -limit && n <= limit
}
