package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

const (
	handshakeWithin = 15 * time.Second
	writeWithin     = 10 * time.Second
	defaultSilence  = 2 * time.Minute // until welcome says how long to wait
	maxFrame        = 128 << 20       // more than an event of 64 MiB can become
)

// ending is how one connection of tail ended.
type ending struct {
	err      error         // one sentence
	welcomed bool          // it had become a session
	final    bool          // connecting again would not help
	orderly  bool          // 1000 or 1001
	wait     time.Duration // before the next try, where the gateway named one
}

// session connects, prints until the connection ends, and closes it.
func (t *tail) session(ctx context.Context) ending {
	token, err := t.token()
	if err != nil {
		return ending{err: err, final: true}
	}
	var refused *ending
	dialer := ws.Dialer{
		Timeout:   handshakeWithin,
		Protocols: []string{"pushgate.v1"},
		Header:    ws.HandshakeHeaderHTTP{"Authorization": {"Bearer " + token}},
		OnStatusError: func(status int, _ []byte, answer io.Reader) {
			e := refusal(status, answer)
			refused = &e
		},
	}
	conn, early, _, err := dialer.Dial(ctx, t.url)
	switch {
	case refused != nil:
		if conn != nil {
			_ = conn.Close()
		}
		return *refused
	case err != nil:
		return ending{err: fmt.Errorf("cannot connect: %w", err)}
	}
	c := &tailConn{tail: t, conn: conn, silence: defaultSilence}
	// A signal ends the read; the close frame is then written by this goroutine,
	// so that two never write at once.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer c.close()

	var source io.Reader = conn
	if early != nil {
		source = early // frames that came with the answer
	}
	return c.read(ctx, source)
}

// refusal reads the answer to a handshake that is no 101.
func refusal(status int, answer io.Reader) ending {
	e := ending{final: status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout}
	message := http.StatusText(status)
	if response, err := http.ReadResponse(bufio.NewReader(answer), nil); err == nil {
		defer func() { _ = response.Body.Close() }()
		var body struct{ Error, Message string }
		if json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&body) == nil && body.Message != "" {
			message = body.Error + ": " + body.Message
		}
		if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16); err == nil {
			e.wait = time.Duration(seconds) * time.Second
		}
	}
	e.err = fmt.Errorf("refused with status %d, %s", status, oneLine(message))
	return e
}

// tailConn is one open connection.
type tailConn struct {
	*tail
	conn     net.Conn
	silence  time.Duration // after which the gateway counts as lost
	welcomed bool
	wait     time.Duration // from drain
	closed   bool          // the gateway's close frame was answered
}

func (c *tailConn) read(ctx context.Context, source io.Reader) ending {
	reader := wsutil.Reader{
		Source: source, State: ws.StateClientSide, CheckUTF8: true,
		MaxFrameSize: maxFrame, MaxMessageSize: maxFrame,
	}
	control := wsutil.ControlFrameHandler(c.conn, ws.StateClientSide)
	reader.OnIntermediate = control
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(c.silence))
		if ctx.Err() != nil { // its deadline may just have been overwritten
			return c.end(ctx.Err())
		}
		header, err := reader.NextFrame()
		if err != nil {
			return c.end(err)
		}
		if header.OpCode.IsControl() {
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeWithin))
			if err := control(header, &reader); err != nil {
				return c.end(err)
			}
			continue
		}
		frame, err := io.ReadAll(&reader)
		if err == nil {
			err = c.frame(frame)
		}
		if err != nil {
			return c.end(err)
		}
	}
}

// frame prints one frame and follows what it says to clients.
func (c *tailConn) frame(frame []byte) error {
	line := append(bytes.ReplaceAll(frame, []byte{'\n'}, []byte{' '}), '\n')
	if _, err := c.out.Write(line); err != nil {
		return &outputError{err}
	}
	var said struct {
		Type      string `json:"type"`
		Heartbeat int64  `json:"heartbeat"`
		Reconnect int64  `json:"reconnect_after_ms"`
	}
	if json.Unmarshal(frame, &said) != nil {
		return nil
	}
	switch said.Type {
	case "welcome":
		c.welcomed = true
		if said.Heartbeat > 0 && said.Heartbeat < 1<<20 {
			c.silence = time.Duration(said.Heartbeat)*time.Second + time.Second
		}
	case "drain":
		c.wait = min(time.Duration(max(said.Reconnect, 0))*time.Millisecond, time.Hour)
	case "event":
		if c.count > 0 {
			if c.count--; c.count == 0 {
				return errCounted
			}
		}
	}
	return nil
}

// outputError is standard output that cannot be written to: a closed pipe.
type outputError struct{ error }

func (e *outputError) Unwrap() error { return e.error }

// end says what the contract makes of an ending.
func (c *tailConn) end(err error) ending {
	e := ending{err: err, welcomed: c.welcomed, wait: c.wait}
	var closing wsutil.ClosedError
	var output *outputError
	var timeout net.Error
	switch {
	case errors.Is(err, errCounted):
	case errors.As(err, &output):
		e.final = true
	case errors.As(err, &closing):
		c.closed = true
		return c.closedWith(e, closing)
	case errors.As(err, &timeout) && timeout.Timeout():
		e.err = fmt.Errorf("the gateway was silent for %s", c.silence)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.err = errors.New("the connection was lost")
	default:
		e.err = fmt.Errorf("the connection was lost: %w", err)
	}
	return e
}

func (c *tailConn) closedWith(e ending, closing wsutil.ClosedError) ending {
	e.err = fmt.Errorf("closed with %d %s", closing.Code, oneLine(closing.Reason))
	switch code := int(closing.Code); {
	case code == 1000, code == 1001:
		e.orderly = true
	case code == 1002, code == 1003, code >= 1007 && code <= 1009, code >= 4000 && code < 4100:
		e.final = true
	case code >= 4200 && code < 4300:
		// A new token connects at once; one that ends at once must not spin.
		e.final = !c.fresh
		if c.welcomed {
			e.wait = time.Millisecond
		}
	}
	return e
}

// close says goodbye unless the gateway did, and closes the connection.
func (c *tailConn) close() {
	if !c.closed {
		frame := ws.MaskFrameInPlace(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_ = ws.WriteFrame(c.conn, frame)
	}
	_ = c.conn.Close()
}
