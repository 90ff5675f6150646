package api

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseControl(t *testing.T) {
	long := strings.Repeat("é", MaxRef/2)
	for _, tc := range []struct {
		say  string
		want Control
		err  string // a part of it; "" is none
	}{
		{`{"type":"ping"}`, Control{Type: "ping"}, ""},
		{"\t{ \"type\" : \"ping\" }\r\n", Control{Type: "ping"}, ""},
		{`{"type":"ping","ref":"7","unknown":{"a":[1]}}`, Control{Type: "ping", Ref: "7"}, ""},
		{`{"type":"p\u0069ng","ref":"\n"}`, Control{Type: "ping", Ref: "\n"}, ""},
		{`{"type":"subscribe","ref":"1","subject":"rooms.42"}`, Control{Type: "subscribe", Ref: "1", Subject: "rooms.42"}, ""},
		{`{"type":"subscribe","subject":"rooms.*.>"}`, Control{Type: "subscribe", Subject: "rooms.*.>"}, ""},
		{`{"type":"subscribe","subject":"a","cursor":"e1.4"}`, Control{Type: "subscribe", Subject: "a", Cursor: "e1.4"}, ""},
		{`{"type":"subscribe","subject":"a","from":"last"}`, Control{Type: "subscribe", Subject: "a", From: "last"}, ""},
		{`{"type":"subscribe","subject":"a","from":"start"}`, Control{Type: "subscribe", Subject: "a", From: "start"}, ""},
		{`{"type":"unsubscribe","subject":"a"}`, Control{Type: "unsubscribe", Subject: "a"}, ""},
		{`{"type":"renew","token":"T"}`, Control{Type: "renew", Token: "T"}, ""},
		{`{"type":"ack","cursor":"e1.4"}`, Control{Type: "ack", Cursor: "e1.4"}, ""},
		{`{"type":"ping","ref":"` + long + `"}`, Control{Type: "ping", Ref: long}, ""},

		{``, Control{}, "one JSON object"},
		{`{`, Control{}, "one JSON object"},
		{`{}{}`, Control{}, "one JSON object"},
		{`{"type":"ping"}x`, Control{}, "one JSON object"},
		{`[]`, Control{}, "one JSON object"},
		{`"ping"`, Control{}, "one JSON object"},
		{`7`, Control{}, "one JSON object"},
		{`null`, Control{}, "needs a type"},
		{`{}`, Control{}, "needs a type"},
		{`{"ref":"7"}`, Control{Ref: "7"}, "needs a type"},
		{`{"type":null,"ref":"7"}`, Control{Ref: "7"}, "needs a type"},
		{`{"type":"","ref":"7"}`, Control{Ref: "7"}, "needs a type"},
		{`{"type":"dance","ref":"7"}`, Control{Type: "dance", Ref: "7"}, "unknown type"},
		{`{"type":"Ping","ref":"7"}`, Control{Type: "Ping", Ref: "7"}, "unknown type"},
		{`{"type":"ping ","ref":"7"}`, Control{Type: "ping ", Ref: "7"}, "unknown type"},

		// The ref is read wherever it stands, whatever is wrong beside it.
		{`{"ref":"7","type":5}`, Control{Ref: "7"}, "type must be a string"},
		{`{"type":5,"ref":"7"}`, Control{Ref: "7"}, "type must be a string"},
		{`{"type":"ping","subject":["a"],"ref":"7"}`, Control{Type: "ping", Ref: "7"}, "subject must be a string"},
		{`{"type":"ping","token":{"a":1},"ref":"7"}`, Control{Type: "ping", Ref: "7"}, "token must be a string"},
		{`{"type":"ping","cursor":true,"from":1,"ref":"7"}`, Control{Type: "ping", Ref: "7"}, "cursor must be a string"},
		{`{"type":"ping","ref":7}`, Control{Type: "ping"}, "ref must be a string"},
		{`{"type":"ping","ref":["7"]}`, Control{Type: "ping"}, "ref must be a string"},
		{`{"type":"ping","ref":"7`, Control{}, "one JSON object"},
		{`{"type":"ping","ref":"` + long + `x"}`, Control{Type: "ping"}, "ref is longer than 64 bytes"},
		{`{"type":"dance","ref":"` + strings.Repeat(`\n`, MaxRef+1) + `"}`, Control{Type: "dance"}, "ref is longer than 64 bytes"},

		{`{"type":"subscribe","ref":"7"}`, Control{Type: "subscribe", Ref: "7"}, "needs a subject"},
		{`{"type":"unsubscribe","ref":"7"}`, Control{Type: "unsubscribe", Ref: "7"}, "needs a subject"},
		{`{"type":"subscribe","subject":""}`, Control{Type: "subscribe"}, "needs a subject"},
		{`{"type":"subscribe","subject":"a..b"}`, Control{Type: "subscribe", Subject: "a..b"}, "not a valid NATS subject"},
		{`{"type":"subscribe","subject":"a b"}`, Control{Type: "subscribe", Subject: "a b"}, "not a valid NATS subject"},
		{`{"type":"subscribe","subject":"a.\u0000"}`, Control{Type: "subscribe", Subject: "a.\x00"}, "not a valid NATS subject"},
		{`{"type":"unsubscribe","subject":">.a"}`, Control{Type: "unsubscribe", Subject: ">.a"}, "not a valid NATS subject"},
		{`{"type":"subscribe","subject":"a","from":"first"}`, Control{Type: "subscribe", Subject: "a", From: "first"}, "from must be"},
		{`{"type":"subscribe","subject":"a","from":"last","cursor":"c"}`,
			Control{Type: "subscribe", Subject: "a", From: "last", Cursor: "c"}, "exclude each other"},
		{`{"type":"renew","ref":"7"}`, Control{Type: "renew", Ref: "7"}, "needs a token"},
		{`{"type":"ack","ref":"7"}`, Control{Type: "ack", Ref: "7"}, "needs a cursor"},

		// Of a key given twice the last one counts, as in a browser; keys in
		// other letters are the same key. A message grants nothing, so that
		// only the sender is surprised.
		{`{"type":"renew","type":"ping"}`, Control{Type: "ping"}, ""},
		{`{"type":"ping","ref":"1","ref":"2"}`, Control{Type: "ping", Ref: "2"}, ""},
		{`{"TYPE":"ping","Ref":"1"}`, Control{Type: "ping", Ref: "1"}, ""},
		{`{"type":"ping","ref":"1","REF":"` + long + `x"}`, Control{Type: "ping"}, "ref is longer than 64 bytes"},
		{`{"type":"subscribe","subject":"a","SUBJECT":"a..b"}`, Control{Type: "subscribe", Subject: "a..b"}, "not a valid NATS subject"},
	} {
		got, err := ParseControl([]byte(tc.say))
		if got != tc.want {
			t.Errorf("%s is read as %+v, want %+v", tc.say, got, tc.want)
		}
		switch {
		case err == nil && tc.err != "":
			t.Errorf("%s is taken", tc.say)
		case err != nil && (tc.err == "" || !strings.Contains(err.Error(), tc.err)):
			t.Errorf("%s is refused with %q, want %q", tc.say, err, tc.err)
		}
	}
}

// TestUnknownTypeIsQuotedShort: the answer repeats little of what a client
// sent.
func TestUnknownTypeIsQuotedShort(t *testing.T) {
	_, err := ParseControl([]byte(`{"type":"` + strings.Repeat("x", 4000) + `"}`))
	if err == nil || len(err.Error()) > 100 {
		t.Errorf("the error is %v", err)
	}
}

// FuzzParseControl: what is taken is complete and valid, a ref is short and
// kept, and every answer can be sent.
func FuzzParseControl(f *testing.F) {
	f.Add([]byte(`{"type":"subscribe","ref":"1","subject":"rooms.42","from":"last"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseControl(data)
		if len(c.Ref) > MaxRef {
			t.Fatalf("a ref of %d bytes", len(c.Ref))
		}
		if err != nil {
			if e := oneLine(AppendError(nil, c.Ref, CodeBadRequest, err.Error())); e != nil {
				t.Fatal(e)
			}
		} else {
			valid := false
			switch c.Type {
			case "ping":
				valid = true
			case "subscribe", "unsubscribe":
				valid = ValidPattern(c.Subject) && (c.From == "" || c.Cursor == "" && (c.From == "last" || c.From == "start"))
			case "renew":
				valid = c.Token != ""
			case "ack":
				valid = c.Cursor != ""
			}
			if !valid {
				t.Fatalf("taken: %+v", c)
			}
		}
		// Only exact keys, each once, are for sure what a client meant.
		var plain map[string]json.RawMessage
		if json.Unmarshal(data, &plain) != nil || plain == nil || len(plain) != strings.Count(string(data), ":") {
			return
		}
		var ref string
		for key := range plain {
			if key != "ref" && strings.EqualFold(key, "ref") {
				return
			}
		}
		if raw, ok := plain["ref"]; ok && json.Unmarshal(raw, &ref) == nil && len(ref) <= MaxRef && c.Ref != ref {
			t.Fatalf("ref is %q, want %q", c.Ref, ref)
		}
	})
}
