package api

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"time"
)

// readVectors reads a file of testdata/vectors. A member that no test knows is
// one that no test looks at.
func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "vectors", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// vectorFile is what every file has.
type vectorFile[C any] struct {
	About string `json:"about"`
	Cases []C    `json:"cases"`
}

func vectors[C any](t *testing.T, name string) []C {
	t.Helper()
	var f vectorFile[C]
	readVectors(t, name, &f)
	if len(f.Cases) == 0 {
		t.Fatalf("%s has no cases", name)
	}
	return f.Cases
}

// members reads a JSON object and keeps its numbers as they are written.
func members(t *testing.T, text []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return m
}

// goldenByName are the frames as the code makes them now.
func goldenByName() map[string]string {
	all := make(map[string]string)
	for _, f := range goldenFrames() {
		all[f.name] = f.frame
	}
	return all
}

func TestVectorsOfFrames(t *testing.T) {
	type vector struct {
		Name, Golden, Text string
		Fields             json.RawMessage
		BytesHex           *string `json:"bytes_hex"`
		Ignored            bool
	}
	golden, types := goldenByName(), map[string]bool{}
	for _, v := range vectors[vector](t, "frames") {
		t.Run(v.Name, func(t *testing.T) {
			if v.Golden != "" && golden[v.Golden] != v.Text {
				t.Errorf("the text is\n%s\nand the code makes\n%s", v.Text, golden[v.Golden])
			}
			if err := oneLine([]byte(v.Text)); err != nil {
				t.Error(err)
			}
			got, want := members(t, []byte(v.Text)), members(t, v.Fields)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%v is read, want %v", got, want)
			}
			types[got["type"].(string)] = true
			in64, binary := got["data_base64"].(string)
			if binary != (v.BytesHex != nil) {
				t.Fatalf("data_base64 stands there: %v", binary)
			}
			if data, err := base64.StdEncoding.DecodeString(in64); binary && (err != nil || hex.EncodeToString(data) != *v.BytesHex) {
				t.Errorf("%q is %x, want %s", in64, data, *v.BytesHex)
			}
		})
	}
	for name, frame := range golden {
		if kind := members(t, []byte(frame))["type"].(string); !types[kind] {
			t.Errorf("%s: no vector is a %s", name, kind)
		}
	}
}

func TestVectorsOfControl(t *testing.T) {
	type vector struct {
		Name, Text    string
		Fields, Error json.RawMessage
	}
	for _, v := range vectors[vector](t, "control") {
		t.Run(v.Name, func(t *testing.T) {
			c, err := ParseControl([]byte(v.Text))
			if (err != nil) != (v.Error != nil) || (err == nil) != (v.Fields != nil) {
				t.Fatalf("the error is %v", err)
			}
			if err != nil {
				frame := AppendError(nil, c.Ref, CodeBadRequest, err.Error())
				if got, want := members(t, frame), members(t, v.Error); !reflect.DeepEqual(got, want) {
					t.Errorf("answered %v, want %v", got, want)
				}
				return
			}
			got := map[string]any{"type": c.Type}
			for name, value := range map[string]string{
				"ref": c.Ref, "subject": c.Subject, "cursor": c.Cursor, "from": c.From, "token": c.Token,
			} {
				if value != "" {
					got[name] = value
				}
			}
			if want := members(t, v.Fields); !reflect.DeepEqual(got, want) {
				t.Errorf("%v is read, want %v", got, want)
			}
		})
	}
}

// actionOfClose is the contract's table of close codes, read anew.
func actionOfClose(code int) string {
	switch {
	case code == 1000 || code == 1001:
		return "reconnect"
	case code == 1002 || code == 1003 || code >= 1007 && code <= 1009:
		return "stop"
	case code < 4000:
		return "back_off"
	}
	return map[int]string{40: "stop", 41: "back_off", 42: "new_token"}[code/100]
}

func TestVectorsOfCloses(t *testing.T) {
	type ending struct{ Label, Text string }
	type vector struct {
		Code    int
		Gateway []ending
		Action  string
	}
	listed := map[ending]int{}
	for _, v := range vectors[vector](t, "closes") {
		if want := actionOfClose(v.Code); v.Action != want {
			t.Errorf("%d: the action is %s, want %s", v.Code, v.Action, want)
		}
		for _, e := range v.Gateway {
			listed[e] = v.Code
		}
	}
	for _, r := range Reasons() {
		e := ending{r.String(), r.Text()}
		if listed[e] != int(r.Code()) {
			t.Errorf("%d %+v is not there", r.Code(), e)
		}
		delete(listed, e)
	}
	for e, code := range listed {
		t.Errorf("no session ends with %d %+v", code, e)
	}
}

// actionOfStatus is what docs/protocol.md says of answers that are no session.
func actionOfStatus(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "new_token"
	case http.StatusUpgradeRequired, http.StatusNotImplemented:
		return "fall_back"
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return "back_off"
	}
	if status >= 400 && status < 500 {
		return "stop"
	}
	return "back_off"
}

func TestVectorsOfRefusals(t *testing.T) {
	type vector struct {
		Name, Error, Body, Action string
		Status                    int
		BadToken                  bool `json:"bad_token"`
		Headers                   map[string]string
	}
	var file struct {
		vectorFile[vector]
		Others []vector
	}
	readVectors(t, "refusals", &file)
	kinds := map[string]RefusalKind{}
	for _, k := range RefusalKinds() {
		kinds[k.String()] = k
	}
	listed := map[RefusalKind]bool{}
	for _, v := range file.Cases {
		t.Run(v.Name, func(t *testing.T) {
			var body struct{ Error, Message string }
			if err := json.Unmarshal([]byte(v.Body), &body); err != nil || body.Error != v.Error {
				t.Fatalf("%v: the body is %s", err, v.Body)
			}
			seconds, _ := strconv.Atoi(v.Headers["Retry-After"])
			kind := kinds[v.Error]
			listed[kind] = true
			resp, got := readAnswer(t, AppendRefusal(nil,
				Refusal{kind, body.Message, time.Duration(seconds) * time.Second, v.BadToken},
				CORS{Origin: v.Headers["Access-Control-Allow-Origin"]}))
			if resp.StatusCode != v.Status || string(got) != v.Body {
				t.Errorf("the code answers %d %q", resp.StatusCode, got)
			}
			if resp.Close {
				resp.Header.Set("Connection", "close") // net/http takes it out
			}
			for name, value := range v.Headers {
				if resp.Header.Get(name) != value {
					t.Errorf("%s is %q, want %q", name, resp.Header.Get(name), value)
				}
			}
			if len(resp.Header) != len(v.Headers) {
				t.Errorf("the headers are %v, want %v", resp.Header, v.Headers)
			}
		})
	}
	for _, k := range RefusalKinds() {
		if !listed[k] {
			t.Errorf("%s is not there", k)
		}
	}
	for _, v := range append(file.Cases, file.Others...) {
		if want := actionOfStatus(v.Status); v.Action != want {
			t.Errorf("%s: the action is %s, want %s", v.Name, v.Action, want)
		}
	}
}
