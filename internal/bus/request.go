package bus

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxUser    = 255 // bytes
	maxEventID = 4096
	maxUsers   = 10_000
	maxHold    = 24 * time.Hour
)

// levels are those of the log.
var levels = []string{"debug", "info", "warn", "error"}

// request is a control request that was understood.
type request struct {
	user, session string // one of them
	issuedBefore  int64  // Unix time
	share         float64

	id    string        // of an event
	users []string      // to look up
	level string        // of the log
	hold  time.Duration // for which it holds; 0: until it is set again
}

// parseDisconnect reads {"user":"…"} or {"session":"…"}. Errors are for whoever
// asked, here and in parseRevoke.
func parseDisconnect(data []byte) (request, error) {
	q, err := parseRequest(data, "user", "session")
	switch {
	case err != nil:
		return request{}, err
	case q.user == "" && q.session == "":
		return request{}, errors.New("the request must name a user or a session")
	case q.user != "" && q.session != "":
		return request{}, errors.New("the request must name a user or a session, not both")
	}
	return q, nil
}

// parseRevoke reads {"user":"…","issued_before":UNIX}. Without a time it is
// everything issued so far, this second included.
func parseRevoke(data []byte, now time.Time) (request, error) {
	q, err := parseRequest(data, "user", "issued_before")
	switch {
	case err != nil:
		return request{}, err
	case q.user == "":
		return request{}, errors.New("the request must name a user")
	case q.issuedBefore == 0:
		q.issuedBefore = now.Unix() + 1
	case q.issuedBefore > now.Add(MaxRevokeAhead).Unix():
		return request{}, errors.New("issued_before lies more than an hour in the future: it must be a Unix time in seconds")
	}
	return q, nil
}

// parseRebalance reads {"share":0.2}.
func parseRebalance(data []byte) (request, error) {
	q, err := parseRequest(data, "share")
	if err == nil && q.share == 0 {
		err = errors.New("the request must name a share")
	}
	return q, err
}

// parseWhy reads {"user":"…","id":"…"}; the id may be left out.
func parseWhy(data []byte) (request, error) {
	q, err := parseRequest(data, "user", "id")
	if err == nil && q.user == "" {
		err = errors.New("the request must name a user")
	}
	return q, err
}

// parseLogLevel reads {"level":"debug","for":"10m"}. Without a level it only
// asks.
func parseLogLevel(data []byte) (request, error) {
	q, err := parseRequest(data, "level", "for")
	if err == nil && q.hold > 0 && q.level == "" {
		err = errors.New("for needs a level")
	}
	return q, err
}

// parseUsers reads {"users":["…"]}.
func parseUsers(data []byte) (request, error) {
	q, err := parseRequest(data, "users")
	if err == nil && q.users == nil {
		err = errors.New("the request must name users")
	}
	return q, err
}

// parseRequest reads one JSON object that has at most these members, each at
// most once, spelled exactly so: encoding/json would take "User" too, and the
// last of two users.
func parseRequest(data []byte, allowed ...string) (request, error) {
	var q request
	notObject := errors.New("the request must be one JSON object")
	if !utf8.Valid(data) {
		return q, notObject
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return q, nil // {}, as NATS's own services take it
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return q, notObject
	}
	var invalid error
	seen := make(map[string]bool)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return q, notObject
		}
		name := key.(string) // the decoder takes nothing else for a key
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return q, notObject
		}
		switch {
		case invalid != nil:
		case !slices.Contains(allowed, name):
			invalid = fmt.Errorf("the request has an unknown field %.40q: it takes %s", name, takes(allowed))
		case seen[name]:
			invalid = fmt.Errorf("the request has %s twice", name)
		default:
			seen[name] = true
			invalid = q.set(name, value)
		}
	}
	if _, err := d.Token(); err != nil {
		return q, notObject
	}
	if _, err := d.Token(); err != io.EOF {
		return q, notObject
	}
	return q, invalid
}

func takes(allowed []string) string {
	if len(allowed) == 0 {
		return "none"
	}
	return strings.Join(allowed, " and ")
}

// set takes one member. What it accepts is never a zero value.
func (q *request) set(name string, value json.RawMessage) error {
	switch name {
	case "users":
		return q.setUsers(value)
	case "issued_before":
		if value[0] == 'n' || json.Unmarshal(value, &q.issuedBefore) != nil {
			return errors.New("issued_before must be a whole number, a Unix time in seconds")
		}
		if q.issuedBefore <= 0 {
			return errors.New("issued_before must be a Unix time above 0")
		}
		return nil
	}
	if name == "share" {
		if value[0] == 'n' || json.Unmarshal(value, &q.share) != nil || !(q.share > 0 && q.share <= 1) {
			return errors.New("share must be a number above 0, and 1 at most")
		}
		return nil
	}
	var text string
	if value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return fmt.Errorf("%s must be a string", name)
	}
	if name == "session" {
		q.session = text
		return checkSession(text)
	}
	return q.setText(name, text)
}

func (q *request) setText(name, text string) (err error) {
	switch name {
	case "id":
		if q.id = text; text == "" || len(text) > maxEventID {
			return fmt.Errorf("id must have 1 to %d bytes", maxEventID)
		}
	case "level":
		if q.level = text; !slices.Contains(levels, text) {
			return fmt.Errorf("level must be one of %s", strings.Join(levels, ", "))
		}
	case "for":
		if q.hold, err = time.ParseDuration(text); err != nil || q.hold < time.Second || q.hold > maxHold {
			return errors.New("for must be a time like 10m, from 1s to 24h")
		}
	default:
		q.user = text
		return checkUser(text)
	}
	return nil
}

// setUsers takes a list of names.
func (q *request) setUsers(value json.RawMessage) error {
	if value[0] != '[' || json.Unmarshal(value, &q.users) != nil {
		return errors.New("users must be a list of strings")
	}
	if len(q.users) > maxUsers {
		return fmt.Errorf("users has %d names: at most %d can be asked for at once", len(q.users), maxUsers)
	}
	for _, user := range q.users {
		if err := checkUser(user); err != nil {
			return err
		}
	}
	return nil
}

func checkUser(user string) error {
	switch {
	case user == "":
		return errors.New("user is empty")
	case len(user) > maxUser:
		return fmt.Errorf("user is longer than %d bytes", maxUser)
	case strings.ContainsRune(user, utf8.RuneError):
		return errors.New("user is not valid UTF-8") // half a surrogate ends here too
	}
	return nil
}

func checkSession(id string) error {
	if raw, err := base64.RawURLEncoding.DecodeString(id); err != nil || len(id) != 22 || len(raw) != 16 {
		return errors.New("session must be 22 base64url characters")
	}
	return nil
}
