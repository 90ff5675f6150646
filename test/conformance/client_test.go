package conformance

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
	"unicode/utf8"
)

// patience is how long anything that is due may take.
const patience = time.Minute

// event is something that came, or a wait in which nothing did.
type event struct{ kind, payload string }

func (e event) String() string {
	if len(e.payload) > 60 {
		return fmt.Sprintf("%s %.40q… of %d", e.kind, e.payload, len(e.payload))
	}
	return fmt.Sprintf("%s %q", e.kind, e.payload)
}

// client is one connection, used by one goroutine. After dial the caller ends
// it with end.
type client struct {
	net.Conn
	in      *bufio.Reader
	deflate *deflater // of the extension that was negotiated; else nil

	events  []event
	partial []byte // of a message that has not come whole
	typ     byte   // its opcode, 0 for none
	packed  bool   // it is compressed
	broken  error  // what the server did that no server may

	closing  bool // our close frame is out
	byMe     bool // and was before the server's came
	closed   bool // the server's close frame is here
	code     int  // its code, -1 for none
	reason   string
	gone     bool // the server ended the TCP connection
	writeErr error
}

// errSlow is the gateway's word that the request took too long: no case is about
// that, but this process may stand still for seconds.
var errSlow = errors.New("the request head came too slowly")

// dial opens a WebSocket with the offers of extensions, if any.
func dial(g *gateway, offers string) (c *client, err error) {
	for range 5 {
		if c, err = dialOnce(g, offers); !errors.Is(err, errSlow) {
			break
		}
	}
	return c, err
}

func dialOnce(g *gateway, offers string) (*client, error) {
	nc, err := dialer().Dial("tcp", g.addr)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: nc, in: bufio.NewReaderSize(nc, 64<<10), code: -1}
	if err := c.handshake(g, offers); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

func (c *client) end() { _ = c.Close() }

func (c *client) handshake(g *gateway, offers string) error {
	head := "GET /v1/ws?echo=1 HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer " + g.token + "\r\n"
	if offers != "" {
		head += "Sec-WebSocket-Extensions: " + offers + "\r\n"
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, head+"\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
	case http.StatusRequestTimeout:
		return errSlow
	default:
		return fmt.Errorf("the handshake is answered %s", resp.Status)
	}
	// The accept value that RFC 6455 §1.3 gives for this key.
	if accept := resp.Header.Get("Sec-WebSocket-Accept"); accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		return fmt.Errorf("the accept value is %q", accept)
	}
	c.deflate, err = negotiated(offers, resp.Header.Values("Sec-WebSocket-Extensions"))
	return err
}

// masks makes the keys of frames: any will do, the same in each run.
var masks = rand.New(rand.NewPCG(6455, 7692))

func key() (k [4]byte) {
	binary.BigEndian.PutUint32(k[:], masks.Uint32())
	return k
}

// put writes bytes. A server may end the connection while a case that is wrong
// is still being written; what matters is what it said.
func (c *client) put(b []byte) {
	if c.writeErr != nil {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	_, c.writeErr = c.Write(b)
}

func (c *client) bytesOf(frames []frame) []byte {
	var b []byte
	for _, f := range frames {
		if f.op == opClose {
			c.byMe, c.closing = c.byMe || !c.closed, true
		}
		b = appendFrame(b, f, key())
	}
	return b
}

// send writes frames at once.
func (c *client) send(frames ...frame) { c.put(c.bytesOf(frames)) }

// between lets the server read what was written before, most of the time: what
// is in one piece and what is not must make no difference.
const between = time.Millisecond

// sendEach writes each frame by itself.
func (c *client) sendEach(frames ...frame) {
	for _, f := range frames {
		c.send(f)
		time.Sleep(between)
	}
}

// sendOctets writes octet by octet.
func (c *client) sendOctets(frames ...frame) {
	for _, b := range c.bytesOf(frames) {
		c.put([]byte{b})
		time.Sleep(between)
	}
}

// sendChops writes in pieces of size bytes, one after the other.
func (c *client) sendChops(size int, frames ...frame) {
	b := bytes.NewBuffer(c.bytesOf(frames))
	for b.Len() > 0 {
		c.put(b.Next(size))
	}
}

// await reads until done, or the server ended the connection, or it is too
// late; it reports whether done holds.
func (c *client) await(limit time.Duration, done func() bool) bool {
	_ = c.SetReadDeadline(time.Now().Add(limit))
	for !done() {
		if c.gone || c.broken != nil {
			return false
		}
		f, err := readFrame(c.in)
		switch {
		case err == nil:
			c.take(f)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false
		case err == io.EOF || errors.Is(err, syscall.ECONNRESET):
			c.gone = true
		default:
			c.broken = err
		}
	}
	return true
}

// quiet waits a little, in which the server must neither close nor fail.
func (c *client) quiet(name string) {
	c.await(200*time.Millisecond, func() bool { return c.closed })
	if !c.closed && !c.gone {
		c.events = append(c.events, event{"timeout", name})
	}
}

// take takes a frame that came.
func (c *client) take(f frame) {
	switch {
	case c.closed:
		c.broken = fmt.Errorf("a frame behind the close frame: %+v", f)
	case f.rsv&3 != 0, f.rsv != 0 && (c.deflate == nil || f.op != opText && f.op != opBinary):
		c.broken = fmt.Errorf("reserved bits %d on opcode %d", f.rsv, f.op)
	case f.op == opPing:
		c.events = append(c.events, event{"ping", f.payload})
		c.send(pong(f.payload))
	case f.op == opPong:
		c.events = append(c.events, event{"pong", f.payload})
	case f.op == opClose:
		c.takeClose(f.payload)
	case f.op > opBinary, (f.op == opContinuation) != (c.typ != 0):
		c.broken = fmt.Errorf("opcode %d inside a message of type %d", f.op, c.typ)
	default:
		if f.op != opContinuation {
			c.typ, c.packed = f.op, f.rsv == 4
		}
		if c.partial = append(c.partial, f.payload...); f.fin {
			c.takeMessage()
		}
	}
}

func (c *client) takeMessage() {
	payload := c.partial
	if c.packed {
		if payload, c.broken = c.deflate.unpack(payload); c.broken != nil {
			return
		}
	}
	kind := "binary"
	if c.typ == opText {
		if kind = "text"; !utf8.Valid(payload) {
			c.broken = errors.New("a text that is not UTF-8")
			return
		}
	}
	c.events = append(c.events, event{kind, string(payload)})
	c.partial, c.typ = c.partial[:0], 0
}

// takeClose answers the server's close frame, if it began.
func (c *client) takeClose(payload string) {
	c.closed = true
	switch {
	case len(payload) >= 2:
		c.code, c.reason = int(binary.BigEndian.Uint16([]byte(payload))), payload[2:]
		if !utf8.ValidString(c.reason) || !sendable(c.code) {
			c.broken = fmt.Errorf("a close frame of %d %q", c.code, c.reason)
		}
	case len(payload) == 1:
		c.broken = errors.New("a close frame of one byte")
	}
	if !c.closing {
		c.send(frame{op: opClose, fin: true, payload: payload[:min(2, len(payload))]})
	}
}

// sendable reports whether a code may stand in a close frame (RFC 6455 §7.4);
// those from 5000 on are undefined.
func sendable(code int) bool {
	return code >= 3000 || code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006
}
