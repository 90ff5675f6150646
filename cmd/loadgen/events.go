//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strconv"
)

// The payload of a measured event names its run, its number for the receiver,
// and when it was due.
var payloadMark = []byte(`{"run":`)

// payload makes an event's payload of size bytes.
func payload(dst []byte, run, seq uint32, sent int64, size int) []byte {
	start := len(dst)
	dst = fmt.Appendf(dst, `{"run":%d,"seq":%d,"sent":%d,"pad":"`, run, seq, sent)
	for len(dst)-start < size-2 {
		dst = append(dst, 'x')
	}
	return append(dst, `"}`...)
}

// nextEvent finds the next measured event in what a server sent.
func nextEvent(b []byte) (run, seq uint32, sent int64, rest []byte, ok bool) {
	i := bytes.Index(b, payloadMark)
	if i < 0 {
		return 0, 0, 0, nil, false
	}
	b = b[i+len(payloadMark):]
	r, b, ok1 := number(b, `,"seq":`)
	s, b, ok2 := number(b, `,"sent":`)
	at, b, ok3 := number(b, `,"pad":`)
	return uint32(r), uint32(s), at, b, ok1 && ok2 && ok3
}

func number(b []byte, until string) (int64, []byte, bool) {
	i := bytes.Index(b[:min(len(b), 32)], []byte(until))
	if i < 0 {
		return 0, b, false
	}
	n, err := strconv.ParseInt(string(b[:i]), 10, 64)
	return n, b[i+len(until):], err == nil
}

// tracker knows which events of a run a session has got: the newest and the
// 63 before it.
type tracker struct {
	run  uint32
	last uint32
	seen uint64 // bit i: last-i has come
}

type arrival uint8

const (
	inOrder arrival = iota
	late            // after a newer one
	twice
)

// take notes an event. Events of a run are numbered from 1 for each receiver.
func (t *tracker) take(run, seq uint32) arrival {
	if t.run != run {
		*t = tracker{run: run}
	}
	if seq > t.last {
		t.seen = t.seen<<(seq-t.last) | 1
		t.last = seq
		return inOrder
	}
	back := t.last - seq
	if back >= 64 {
		return late
	}
	if t.seen&(1<<back) != 0 {
		return twice
	}
	t.seen |= 1 << back
	return late
}
