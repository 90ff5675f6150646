package bus

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseDisconnect(t *testing.T) {
	const id = "AAAAAAAAAAAAAAAAAAAAAA"
	long := strings.Repeat("x", 255)
	for _, tt := range []struct{ data, user, session, wrong string }{
		{data: `{"user":"alice"}`, user: "alice"},
		{data: " {\n\"user\" : \"one/al\\u0069ce\" }\n", user: "one/alice"},
		{data: `{"user":"` + long + `"}`, user: long},
		{data: `{"session":"` + id + `"}`, session: id},
		{data: ``, wrong: "must name a user or a session"}, // {}
		{data: `null`, wrong: "must be one JSON object"},
		{data: `["user"]`, wrong: "must be one JSON object"},
		{data: `{"user":"a"`, wrong: "must be one JSON object"},
		{data: `{"user":"a",}`, wrong: "must be one JSON object"},
		{data: `{"user":}`, wrong: "must be one JSON object"},
		{data: `{1:2}`, wrong: "must be one JSON object"},
		{data: `{"user":"a"} {}`, wrong: "must be one JSON object"},
		{data: `{"user":"a"}]`, wrong: "must be one JSON object"},
		{data: "{\"user\":\"\xff\"}", wrong: "must be one JSON object"},
		{data: `{}`, wrong: "must name a user or a session"},
		{data: `{"user":"a","session":"` + id + `"}`, wrong: "not both"},
		{data: `{"user":"a","user":"b"}`, wrong: "user twice"},
		{data: `{"User":"a"}`, wrong: `unknown field "User": it takes user and session`},
		{data: `{"user":"a","issued_before":1}`, wrong: `unknown field "issued_before"`},
		{data: `{"user":7}`, wrong: "user must be a string"},
		{data: `{"user":null}`, wrong: "user must be a string"},
		{data: `{"user":""}`, wrong: "user is empty"},
		{data: `{"user":"` + long + `x"}`, wrong: "user is longer than 255 bytes"},
		{data: `{"user":"\ud800"}`, wrong: "user is not valid UTF-8"},
		{data: `{"session":["a"]}`, wrong: "session must be a string"},
		{data: `{"session":""}`, wrong: "session must be 22 base64url characters"},
		{data: `{"session":"` + id[1:] + `"}`, wrong: "session must be 22 base64url characters"},
		{data: `{"session":"` + id + `A"}`, wrong: "session must be 22 base64url characters"},
		{data: `{"session":"` + id[2:] + `+/"}`, wrong: "session must be 22 base64url characters"},
		{data: `{"session":"` + id[1:] + `\n"}`, wrong: "session must be 22 base64url characters"},
	} {
		q, err := parseDisconnect([]byte(tt.data))
		check(t, tt.data, q, err, request{user: tt.user, session: tt.session}, tt.wrong)
	}
}

func TestParseRevoke(t *testing.T) {
	now := time.Unix(1_800_000_000, 999)
	hour := now.Unix() + 3600
	for _, tt := range []struct {
		data  string
		time  int64
		wrong string
	}{
		{data: `{"user":"a"}`, time: now.Unix() + 1},
		{data: `{"issued_before":1,"user":"a"}`, time: 1},
		{data: fmt.Sprintf(`{"user":"a","issued_before":%d}`, hour), time: hour},
		{data: fmt.Sprintf(`{"user":"a","issued_before":%d}`, hour+1), wrong: "more than an hour in the future"},
		{data: fmt.Sprintf(`{"user":"a","issued_before":%d}`, now.UnixMilli()), wrong: "in seconds"},
		{data: `{"user":"a","issued_before":0}`, wrong: "above 0"},
		{data: `{"user":"a","issued_before":-1}`, wrong: "above 0"},
		{data: `{"user":"a","issued_before":1.5}`, wrong: "whole number"},
		{data: `{"user":"a","issued_before":99999999999999999999}`, wrong: "whole number"},
		{data: `{"user":"a","issued_before":"1"}`, wrong: "whole number"},
		{data: `{"user":"a","issued_before":null}`, wrong: "whole number"},
		{data: `{"issued_before":1}`, wrong: "must name a user"},
		{data: `{"session":"AAAAAAAAAAAAAAAAAAAAAA"}`, wrong: `unknown field "session"`},
	} {
		q, err := parseRevoke([]byte(tt.data), now)
		check(t, tt.data, q, err, request{user: "a", issuedBefore: tt.time}, tt.wrong)
	}
}

func check(t *testing.T, data string, got request, err error, want request, wrong string) {
	t.Helper()
	switch {
	case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
		t.Errorf("%s: error %v, want %q", data, err, wrong)
	case wrong == "" && (err != nil || !reflect.DeepEqual(got, want)):
		t.Errorf("%s: got %+v, %v", data, got, err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"user":"a","session":"b"}`))
	f.Add([]byte(`{"user":"a","issued_before":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if q, err := parseDisconnect(data); err == nil && (q.user == "") == (q.session == "") {
			t.Errorf("%q gives %+v", data, q)
		}
		if q, err := parseRevoke(data, time.Now()); err == nil && (q.user == "" || q.issuedBefore <= 0) {
			t.Errorf("%q gives %+v", data, q)
		}
	})
}
