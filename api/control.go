package api

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrorCode is the code of an error frame.
type ErrorCode string

// The codes of the contract.
const (
	CodeBadRequest  ErrorCode = "bad_request"
	CodeForbidden   ErrorCode = "forbidden"
	CodeLimit       ErrorCode = "limit"
	CodeUnavailable ErrorCode = "unavailable"
)

// Control is one message of a client to the gateway.
type Control struct {
	Type    string // subscribe, unsubscribe, renew, ack or ping
	Ref     string // the client's own mark, returned in the reply
	Subject string
	Cursor  string
	From    string // "last" or "start"
	Token   string
}

// MaxRef is the longest ref, in bytes, that a client may choose.
const MaxRef = 64

// ParseControl reads one control message. On an error the returned Control
// still has the ref, where one could be read, so that the reply can name it.
// The error's text is meant for the client.
func ParseControl(data []byte) (Control, error) {
	var m struct {
		Type    string `json:"type"`
		Ref     string `json:"ref"`
		Subject string `json:"subject"`
		Cursor  string `json:"cursor"`
		From    string `json:"from"`
		Token   string `json:"token"`
	}
	err := json.Unmarshal(data, &m)
	c := Control{Type: m.Type, Ref: m.Ref, Subject: m.Subject, Cursor: m.Cursor, From: m.From, Token: m.Token}
	if len(c.Ref) > MaxRef {
		c.Ref = ""
		return c, fmt.Errorf("ref is longer than %d bytes", MaxRef)
	}
	var typeError *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typeError) && typeError.Field == "":
		return c, errors.New("a message is one JSON object")
	case errors.As(err, &typeError):
		return c, fmt.Errorf("%s must be a string", typeError.Field)
	case err != nil:
		return c, errors.New("a message is one JSON object")
	}
	switch c.Type {
	case "ping":
		return c, nil
	case "subscribe", "unsubscribe":
		if c.Subject == "" {
			return c, fmt.Errorf("%s needs a subject", c.Type)
		}
		if !ValidPattern(c.Subject) {
			return c, errors.New("subject is not a valid NATS subject")
		}
		if c.From != "" && c.From != "last" && c.From != "start" {
			return c, errors.New(`from must be "last" or "start"`)
		}
		if c.From != "" && c.Cursor != "" {
			return c, errors.New("cursor and from exclude each other")
		}
		return c, nil
	case "renew":
		if c.Token == "" {
			return c, errors.New("renew needs a token")
		}
		return c, nil
	case "ack":
		if c.Cursor == "" {
			return c, errors.New("ack needs a cursor")
		}
		return c, nil
	case "":
		return c, errors.New("a message needs a type")
	default:
		return c, fmt.Errorf("unknown type %.32q", c.Type)
	}
}
