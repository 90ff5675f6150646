package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write testdata/frames.golden anew")

var noon = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)

// goldenFrames are what clients parse: a changed byte is a changed contract.
func goldenFrames() []struct{ name, frame string } {
	event := func(e Event) string {
		if e.Subject == "" {
			e.Subject = "user.alice"
		}
		if e.Time.IsZero() {
			e.Time = noon
		}
		return string(AppendEvent(nil, &e))
	}
	data := func(s string) string { return event(Event{Data: []byte(s)}) }
	text := func(s string) string { return event(Event{Data: []byte(s), Format: FormatText}) }
	binary := func(s string) string { return event(Event{Data: []byte(s), Format: FormatBinary}) }
	welcome := Welcome{
		Session: "AAAAAAAAAAAAAAAAAAAAAA", User: "alice", Subjects: []string{"user.alice", "broadcast"},
		Expires: noon, Heartbeat: time.Minute,
	}
	fresh := welcome
	fresh.Cursor = "e1.42"
	odd := Welcome{Session: "s", User: `a"b\`, Expires: noon.In(time.FixedZone("", 3600)), Heartbeat: 1500 * time.Millisecond}

	return []struct{ name, frame string }{
		{"event with everything", event(Event{ID: "m-1", Cursor: "e1.42", Data: []byte(`{"a":1}`)})},
		{"event of CloudEvents", event(Event{
			ID: "m-1", Cursor: "e1.42", Type: "com.example.order.paid", Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			Attributes: []Attribute{{"source", "/orders"}, {"specversion", "1.0"}, {"subject", `a"b`}}, Data: []byte(`{"a":1}`),
		})},
		{"event with a trace only", event(Event{Trace: "00-1-2-01", Data: []byte(`1`)})},
		{"event with an id only", event(Event{ID: "m-1", Data: []byte(`1`)})},
		{"event with a cursor only", event(Event{Cursor: "e1.42", Data: []byte(`1`)})},
		{"event in another zone", event(Event{Time: noon.In(time.FixedZone("", -7200)), Data: []byte(`1`)})},
		{"event at a full second", event(Event{Time: noon.Truncate(time.Second), Data: []byte(`1`)})},
		{"event with an odd subject and id", event(Event{Subject: "user.\"\\\xff\u00e9", ID: "\x00\n\x7f\u2028", Data: []byte(`1`)})},
		{"json object", data(`{"a":[1,2.50,-0,1e3,true,null]}`)},
		{"json keeps spaces and key order", data("{ \"b\" : 1,\t\"a\" : 2, \"a\" : 3 }")},
		{"json with line breaks", data("\r\n{\n  \"a\": \"x\\ny\",\r\n  \"b\": [\n    1\n  ]\r}\n")},
		{"json string", data(`"hi"`)},
		{"json with an escaped lone surrogate", data(`"\ud800"`)},
		{"json with an emoji, raw and escaped", data(`["😀","\ud83d\ude00"]`)},
		{"json with raw U+2028", data("\"a\u2028b\u2029c\"")},
		{"json with invalid UTF-8 in a string", data("{\"a\":\"\xff\"}")},
		{"json with a raw surrogate in UTF-8", data("\"\xed\xa0\x80\"")},
		{"json behind a BOM is text", data("\ufeff{}")},
		{"two json values are text", data(`{} {}`)},
		{"text", data("hello")},
		{"text with line breaks", data("a\nb\r\nc")},
		{"text with quotes and backslashes", data(`say "\" <&>`)},
		{"text with control characters", data("\x00\x01\b\t\n\v\f\r\x1b\x1f\x7f\u0085")},
		{"text with U+2028", data("a\u2028b\u2029c")},
		{"text with an emoji", data("😀")},
		{"text with the replacement character", data("\ufffd")},
		{"empty", data("")},
		{"line break alone", data("\n")},
		{"binary", data("\xff\xfe\x00")},
		{"binary with a cut character", data("abc\xe2\x82")},
		{"forced text of json", text(`{"a":1}`)},
		{"forced text of nothing", text("")},
		{"forced text of binary", text("\xff")},
		{"forced binary of json", binary(`{"a":1}`)},
		{"forced binary of nothing", binary("")},
		{"forced binary padded", binary("a?>~")},

		{"welcome", string(AppendWelcome(nil, &welcome))},
		{"welcome with cursor", string(AppendWelcome(nil, &fresh))},
		{"welcome of an odd user", string(AppendWelcome(nil, &odd))},
		{"pong", string(AppendPong(nil, "", ""))},
		{"pong with ref", string(AppendPong(nil, "7\"\n", ""))},
		{"pong with cursor", string(AppendPong(nil, "7", "e1.42"))},
		{"resumed complete", string(AppendResumed(nil, &Resumed{Complete: true, Replayed: 12, Cursor: "e1.42"}))},
		{"resumed without a stream", string(AppendResumed(nil, &Resumed{}))},
		{"resumed of one subject", string(AppendResumed(nil, &Resumed{Ref: "1", Complete: true, Cursor: "e1.42"}))},
		{"dropped", string(AppendDropped(nil, "prices.EURUSD", 17))},
		{"drain", string(AppendDrain(nil, 1234*time.Millisecond, "e1.42"))},
		{"drain at once", string(AppendDrain(nil, 0, ""))},
		{"error", string(AppendError(nil, "", CodeBadRequest, "a message needs a type"))},
		{"error with ref", string(AppendError(nil, "7", CodeForbidden, `no "x"`))},
		{"error limit", string(AppendError(nil, "7", CodeLimit, "x"))},
		{"subscribed", string(AppendSubscribed(nil, "1", "rooms.42"))},
		{"subscribed without ref", string(AppendSubscribed(nil, "", "rooms.*.>"))},
		{"unsubscribed", string(AppendUnsubscribed(nil, "2", "rooms.42"))},
		{"unsubscribed unasked", string(AppendUnsubscribed(nil, "", "rooms.\"é"))},
		{"renewed", string(AppendRenewed(nil, "3", noon, []string{"user.alice", "rooms.42"}))},
		{"renewed without ref", string(AppendRenewed(nil, "", noon, nil))},
		{"error unavailable", string(AppendError(nil, "7", CodeUnavailable, "x"))},
	}
}

func TestGoldenFrames(t *testing.T) {
	path := filepath.Join("testdata", "frames.golden")
	var all strings.Builder
	for _, f := range goldenFrames() {
		if err := oneLine([]byte(f.frame)); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		fmt.Fprintf(&all, "%s: %s\n", f.name, f.frame)
	}
	if *update {
		if err := os.WriteFile(path, []byte(all.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(all.String(), "\n"), strings.Split(string(golden), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("line %d:\n got %q\nwant %q", i+1, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
		}
	}
}

// oneLine checks what holds for every frame.
func oneLine(frame []byte) error {
	switch {
	case !utf8.Valid(frame):
		return fmt.Errorf("not UTF-8: %q", frame)
	case bytes.ContainsAny(frame, "\r\n"):
		return fmt.Errorf("more than one line: %q", frame)
	case !json.Valid(frame):
		return fmt.Errorf("not JSON: %.200q", frame)
	}
	return nil
}

// checkEvent compares the frame with the contract, read anew.
func checkEvent(e Event) error {
	frame := AppendEvent([]byte("before"), &e)
	frame, ok := bytes.CutPrefix(frame, []byte("before"))
	if !ok {
		return fmt.Errorf("the frame is not appended: %q", frame)
	}
	if err := oneLine(frame); err != nil {
		return err
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal(frame, &got); err != nil {
		return err
	}
	want := map[string]string{
		"type": "event", "subject": mended(e.Subject), "time": e.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	if e.ID != "" {
		want["id"] = mended(e.ID)
	}
	if e.Cursor != "" {
		want["cursor"] = mended(e.Cursor)
	}
	place := "data"
	switch {
	case e.Format == FormatBinary || !utf8.Valid(e.Data):
		place = "data_base64"
		want[place] = base64.StdEncoding.EncodeToString(e.Data)
	case e.Format == FormatAuto && json.Valid(e.Data):
		raw := got[place]
		if a, b := compact(raw), compact(e.Data); a == "" || a != b {
			return fmt.Errorf("data is %q, want the value %q", raw, e.Data)
		}
		delete(got, place)
	default:
		want[place] = string(e.Data)
	}
	keys := slices.Sorted(maps.Keys(got))
	if !slices.Equal(keys, slices.Sorted(maps.Keys(want))) {
		return fmt.Errorf("keys are %v in %q", keys, frame)
	}
	for k, w := range want {
		var s string
		if err := json.Unmarshal(got[k], &s); err != nil || s != w {
			return fmt.Errorf("%s is %s, want %q", k, got[k], w)
		}
	}
	return nil
}

// mended is s with each byte that is not UTF-8 replaced.
func mended(s string) string { return string([]rune(s)) }

func compact(value []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return ""
	}
	return b.String()
}

// genJSON makes JSON text as people and machines write it: with spaces and
// line breaks in every place where they may stand.
func genJSON(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		space := rapid.StringOfN(rapid.SampledFrom([]rune(" \t\r\n")), 0, 3, -1)
		kind := 3
		if depth > 0 {
			kind = rapid.IntRange(0, 4).Draw(t, "kind")
		}
		var b strings.Builder
		b.WriteString(space.Draw(t, "before"))
		switch kind {
		case 0, 1:
			for i := range rapid.IntRange(0, 3).Draw(t, "size") {
				if i > 0 {
					b.WriteByte(',')
				}
				if kind == 0 {
					b.WriteString(space.Draw(t, "space") + genJSONString.Draw(t, "key") + space.Draw(t, "space") + ":")
				}
				b.WriteString(genJSON(depth-1).Draw(t, "value"))
			}
			inner := b.String()
			b.Reset()
			if kind == 0 {
				b.WriteString("{" + inner + "}")
			} else {
				b.WriteString("[" + inner + "]")
			}
		case 2:
			b.WriteString(rapid.SampledFrom([]string{"0", "-0", "1e400", "12345678901234567890", "true", "null"}).Draw(t, "literal"))
		default:
			b.WriteString(genJSONString.Draw(t, "string"))
		}
		return b.String() + space.Draw(t, "behind")
	})
}

var genJSONString = rapid.Custom(func(t *rapid.T) string {
	piece := rapid.SampledFrom([]string{
		"a", " ", `\n`, `\r`, `\\`, `\"`, `\u000a`, `\ud800`, `\u2028`, "\u2028", "\u0085", "é", "😀", "\x7f", "/", "<",
	})
	return `"` + strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), "") + `"`
})

func TestEventsAreWhatWasPublished(t *testing.T) {
	plain := rapid.Custom(func(t *rapid.T) []byte {
		return []byte(rapid.StringOf(rapid.RuneFrom([]rune("a{}[]\",:\\\n\r\x00\x1f\x7f\u0085\u2028\ufeffé😀"))).Draw(t, "text"))
	})
	valid := rapid.Map(genJSON(3), func(s string) []byte { return []byte(s) })
	spoiled := rapid.Custom(func(t *rapid.T) []byte {
		b := valid.Draw(t, "json")
		at := rapid.IntRange(0, len(b)).Draw(t, "at")
		return slices.Insert(slices.Clone(b), at, rapid.Byte().Draw(t, "byte"))
	})
	payload := rapid.OneOf(valid, spoiled, plain, rapid.SliceOfN(rapid.Byte(), 0, 40))
	name := rapid.Map(rapid.OneOf(plain, rapid.SliceOfN(rapid.Byte(), 0, 12)), func(b []byte) string { return string(b) })
	rapid.Check(t, func(t *rapid.T) {
		e := Event{
			Subject: name.Draw(t, "subject"), ID: name.Draw(t, "id"), Cursor: name.Draw(t, "cursor"),
			Time:   noon.Add(time.Duration(rapid.Int64Range(-1<<60, 1<<60).Draw(t, "time"))),
			Format: Format(rapid.IntRange(0, 2).Draw(t, "format")),
			Data:   payload.Draw(t, "data"),
		}
		if err := checkEvent(e); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDeepPayload: encoding/json reads 10,000 levels and no more. A payload of
// as many stands one level deeper in its frame, which a client in Go must
// still read.
func TestDeepPayload(t *testing.T) {
	for _, depth := range []int{100, 9_999, 10_000, 10_001} {
		data := []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
		if err := oneLine(AppendEvent(nil, &Event{Subject: "a", Time: noon, Data: data})); err != nil {
			t.Errorf("%d levels: %.80s", depth, err.Error())
		}
	}
}

func FuzzAppendEvent(f *testing.F) {
	f.Add("user.alice", "m-1", "e1.42", int64(1767323045678), uint8(0), []byte("{\n\"a\": 1\r\n}"))
	f.Fuzz(func(t *testing.T, subject, id, cursor string, ms int64, format uint8, data []byte) {
		e := Event{
			Subject: subject, ID: id, Cursor: cursor,
			// Within the years that RFC 3339 can write.
			Time:   time.UnixMilli(ms & (1<<47 - 1)),
			Format: Format(format % 3), Data: data,
		}
		if err := checkEvent(e); err != nil {
			t.Fatal(err)
		}
	})
}
