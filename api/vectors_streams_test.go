package api

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// sseEvent is one event of a stream, as a client sees it.
type sseEvent struct {
	Event, Data string
	LastEventID string `json:"last_event_id"`
}

// sseReader reads an event stream by the rules of the HTML standard (9.2.6),
// written as plainly as they stand there.
type sseReader struct {
	waiting     string // bytes of a line whose end is not here yet
	begun       bool
	event, data string
	idBuffer    string // of a block that has not ended yet
	id          string
	retry       *int
	events      []sseEvent
}

func (r *sseReader) feed(chunk string) {
	r.waiting += chunk
	if !r.begun {
		const bom = "\ufeff"
		if len(r.waiting) < len(bom) && strings.HasPrefix(bom, r.waiting) {
			return
		}
		r.waiting, r.begun = strings.TrimPrefix(r.waiting, bom), true
	}
	for {
		at := strings.IndexAny(r.waiting, "\r\n")
		if at < 0 || at == len(r.waiting)-1 && r.waiting[at] == '\r' {
			return // a CR may be half of a line's end
		}
		line, rest := r.waiting[:at], r.waiting[at+1:]
		if r.waiting[at] == '\r' {
			rest = strings.TrimPrefix(rest, "\n")
		}
		r.waiting = rest
		r.line(line)
	}
}

func (r *sseReader) line(line string) {
	if line == "" {
		r.id = r.idBuffer
		if r.data != "" {
			event := r.event
			if event == "" {
				event = "message"
			}
			r.events = append(r.events, sseEvent{event, strings.TrimSuffix(r.data, "\n"), r.id})
		}
		r.event, r.data = "", ""
		return
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		r.event = value
	case "data":
		r.data += value + "\n"
	case "id":
		if !strings.Contains(value, "\x00") {
			r.idBuffer = value
		}
	case "retry":
		if ms, err := strconv.Atoi(value); err == nil && strings.Trim(value, "0123456789") == "" {
			r.retry = &ms
		}
	}
}

// framed is a frame as it stands in an event stream.
func framed(t *testing.T, frame string) string {
	t.Helper()
	var f struct {
		Type, Cursor, Reason string
		Code                 uint16
	}
	if err := json.Unmarshal([]byte(frame), &f); err != nil {
		t.Fatal(err)
	}
	switch f.Type {
	case "event":
		return string(AppendSSEEvent(nil, f.Cursor, []byte(frame)))
	case "": // an ending has no frame
		return string(AppendSSEClose(nil, f.Code, f.Reason))
	}
	return string(AppendSSEControl(nil, []byte(frame)))
}

func TestVectorsOfSSE(t *testing.T) {
	type ending struct {
		Code   int
		Reason string
	}
	type vector struct {
		Name, Stream string
		Gateway      bool // one that a gateway could send
		Events       []sseEvent
		LastEventID  string `json:"last_event_id"`
		RetryMS      *int   `json:"retry_ms"`
		Close        *ending
	}
	for _, v := range vectors[vector](t, "sse") {
		t.Run(v.Name, func(t *testing.T) {
			// In one piece, in two, cut at each place, and byte by byte.
			for cut := -1; cut <= len(v.Stream); cut++ {
				var r sseReader
				if cut < 0 {
					for i := range len(v.Stream) {
						r.feed(v.Stream[i : i+1])
					}
				} else {
					r.feed(v.Stream[:cut])
					r.feed(v.Stream[cut:])
				}
				if len(r.events)+len(v.Events) > 0 && !reflect.DeepEqual(r.events, v.Events) || r.id != v.LastEventID || !reflect.DeepEqual(r.retry, v.RetryMS) {
					t.Fatalf("cut at %d: events %q, id %q, retry %v", cut, r.events, r.id, r.retry)
				}
			}
			if v.Gateway {
				checkGatewayStream(t, v.Stream, v.Events)
			}
			if v.Close != nil {
				var got ending
				last := v.Events[len(v.Events)-1]
				if err := json.Unmarshal([]byte(last.Data), &got); err != nil || last.Event != "close" || got != *v.Close {
					t.Errorf("%v: the last event is %+v", err, last)
				}
				for _, reason := range Reasons() {
					if int(reason.Code()) == got.Code && reason.Text() == got.Reason {
						return
					}
				}
				t.Errorf("no session ends with %+v", got)
			}
		})
	}
}

// checkGatewayStream: frames as a gateway makes them, in its framing, with
// heartbeats in between.
func checkGatewayStream(t *testing.T, stream string, events []sseEvent) {
	t.Helper()
	golden := map[string]bool{}
	for _, frame := range goldenByName() {
		golden[frame] = true
	}
	for _, e := range events {
		if e.Event != "close" && !golden[e.Data] {
			t.Errorf("the gateway makes no such frame: %s", e.Data)
		}
		for !strings.HasPrefix(stream, framed(t, e.Data)) {
			_, rest, ok := strings.Cut(stream, "\n\n")
			if !ok {
				t.Fatalf("%s stands otherwise in the stream", e.Data)
			}
			stream = rest // a heartbeat
		}
		stream = strings.TrimPrefix(stream, framed(t, e.Data))
	}
	for beat := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		if beat != "" && beat != ":" && (!strings.HasPrefix(beat, "id: ") || strings.Contains(beat, "\n")) {
			t.Errorf("%q is no heartbeat", beat)
		}
	}
}

// memory is what a client keeps of where it is.
type memory struct{ cursor string }

// newer is the cursor check of docs/protocol.md.
func (m *memory) newer(cursor string) bool {
	had, hadOK := ParseCursor(m.cursor)
	now, ok := ParseCursor(cursor)
	if hadOK && ok && had.Stream == now.Stream {
		return now.Seq > had.Seq
	}
	return cursor != m.cursor
}

// take reports whether the app is given the frame.
func (m *memory) take(kind, cursor string, replay bool) (deliver bool) {
	switch {
	case cursor == "" || replay:
		return kind == "event"
	case !m.newer(cursor):
		return false
	}
	m.cursor = cursor
	return kind == "event"
}

// frameHead is what the cursor check looks at.
type frameHead struct {
	Type, Cursor string
	Replay       bool
}

func TestVectorsOfCursors(t *testing.T) {
	type step struct {
		Frame   json.RawMessage
		Deliver *bool
		Cursor  string
	}
	type vector struct {
		Name, Start string
		Steps       []step
	}
	for _, v := range vectors[vector](t, "cursors") {
		m := memory{v.Start}
		for i, s := range v.Steps {
			var f frameHead
			if err := json.Unmarshal(s.Frame, &f); err != nil {
				t.Fatal(err)
			}
			deliver := m.take(f.Type, f.Cursor, f.Replay)
			if (f.Type == "event") != (s.Deliver != nil) || s.Deliver != nil && *s.Deliver != deliver || m.cursor != s.Cursor {
				t.Errorf("%s, step %d: given %v, the cursor is %q", v.Name, i, deliver, m.cursor)
			}
		}
	}
}

func TestVectorsOfDelays(t *testing.T) {
	type vector struct {
		Name       string
		Attempt    int
		Drain      *int     `json:"reconnect_after_ms"`
		RetryAfter *float64 `json:"retry_after_s"`
		Min        float64  `json:"min_ms"`
		Max        float64  `json:"max_ms"`
	}
	var file struct {
		vectorFile[vector]
		Base float64 `json:"base_ms"`
		Cap  float64 `json:"cap_ms"`
	}
	readVectors(t, "delays", &file)
	for _, v := range file.Cases {
		jitter := file.Base
		for i := 0; i < v.Attempt && jitter < file.Cap; i++ {
			jitter = min(2*jitter, file.Cap)
		}
		least := 0.0
		if v.RetryAfter != nil {
			least = *v.RetryAfter * 1000
		}
		if v.Drain != nil {
			least, jitter = float64(*v.Drain), 0
		}
		if v.Min != least || v.Max != least+jitter {
			t.Errorf("%s: between %v and %v, want %v and %v", v.Name, v.Min, v.Max, least, least+jitter)
		}
	}
}

func TestVectorsOfPolling(t *testing.T) {
	type vector struct {
		Name, Body, Next, Cursor string
		Before                   string `json:"cursor_before"`
		Golden                   []string
		Delivered                int
		Reload                   bool
	}
	golden := goldenByName()
	for _, v := range vectors[vector](t, "polling") {
		t.Run(v.Name, func(t *testing.T) {
			var body struct {
				Events         []json.RawMessage
				Cursor         string
				Complete, More bool
			}
			if err := json.Unmarshal([]byte(v.Body), &body); err != nil {
				t.Fatal(err)
			}
			made := Polled{Cursor: body.Cursor, Complete: body.Complete, More: body.More}
			for _, text := range body.Events {
				made.Events = append(made.Events, text)
			}
			if got := string(AppendPolled(nil, &made)); got != v.Body {
				t.Errorf("the gateway would answer %q", got)
			}
			m, delivered := memory{v.Before}, 0
			for i, text := range body.Events {
				if i >= len(v.Golden) || string(text) != golden[v.Golden[i]] {
					t.Fatalf("event %d is no frame of %q: %s", i, v.Golden, text)
				}
				var f frameHead
				if err := json.Unmarshal(text, &f); err != nil {
					t.Fatal(err)
				}
				if m.take(f.Type, f.Cursor, f.Replay) {
					delivered++
				}
			}
			m.take("polled", body.Cursor, false)
			next := map[bool]string{true: "at_once", false: "wait"}[body.More]
			if delivered != v.Delivered || body.Complete == v.Reload || next != v.Next || m.cursor != v.Cursor {
				t.Errorf("%d delivered, complete is %v, next %s, the cursor is %q", delivered, body.Complete, next, m.cursor)
			}
		})
	}
}
