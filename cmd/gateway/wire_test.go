package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// response is what came back on a connection.
type response struct {
	status  int
	header  http.Header
	code    string         // the refusal's
	welcome map[string]any // the session's
	all     string         // every byte that came
}

const wsLines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// wsRequest is a handshake with more header lines.
func wsRequest(target string, lines ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: gate.example\r\n" + wsLines + joinLines(lines)
}

func joinLines(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n"
}

func bearerLine(token string) string { return "Authorization: Bearer " + token }

// headWithin is less than a gateway waits for a request head.
const headWithin = 4 * time.Second

// tooLate says of a request that failed that this machine was so slow with it
// that the gateway did not wait. It is made again: that is not what is tested.
func tooLate(began time.Time, status int, err error) bool {
	return status == http.StatusRequestTimeout || err != nil && time.Since(began) > headWithin
}

// ask sends a request as it is and reads all of the answer: of a session up to
// its welcome, which is then left.
func ask(t testing.TB, addr net.Addr, request string) response {
	t.Helper()
	a, err := askAlone(addr, request)
	if err != nil {
		t.Fatalf("%v; so far came %q", err, a.all)
	}
	return a
}

// askAlone is ask for goroutines.
func askAlone(addr net.Addr, request string) (a response, err error) {
	for end := time.Now().Add(comesWithin); ; {
		began := time.Now()
		conn, err := net.Dial("tcp", addr.String())
		if err != nil {
			return a, err
		}
		a, err = exchange(conn, request)
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset leaves no port waiting
		_ = conn.Close()
		if !tooLate(began, a.status, err) || time.Now().After(end) {
			return a, err
		}
	}
}

func askOn(t testing.TB, conn net.Conn, request string) response {
	t.Helper()
	a, err := exchange(conn, request)
	if err != nil {
		t.Fatalf("%v; so far came %q", err, a.all)
	}
	return a
}

func exchange(conn net.Conn, request string) (a response, err error) {
	if err := conn.SetDeadline(time.Now().Add(comesWithin)); err != nil {
		return a, err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return a, err
	}
	var all bytes.Buffer
	defer func() { a.all = all.String() }()
	r := bufio.NewReader(io.TeeReader(conn, &all))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return a, err
	}
	a.status, a.header = resp.StatusCode, resp.Header
	if resp.StatusCode == http.StatusSwitchingProtocols {
		frame, err := readFrame(r)
		if err == nil {
			err = json.Unmarshal(frame, &a.welcome)
		}
		if err == nil {
			// Goodbye, and what comes until the end.
			_, err = conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
			_, _ = io.Copy(io.Discard, r)
		}
		return a, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	_ = resp.Body.Close()
	if len(body) > 0 {
		var refusal struct{ Error, Message string }
		if err := json.Unmarshal(body, &refusal); err != nil {
			return a, err
		}
		a.code = refusal.Error
	}
	// The connection ends behind the answer, whatever the client had sent.
	_, err = io.Copy(io.Discard, r)
	return a, err
}

// readFrame reads one frame as servers send them.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return nil, err
	}
	n := int(head[1])
	if n == 126 {
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return nil, err
		}
		n = int(binary.BigEndian.Uint16(head[2:]))
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// counters are the samples of a metric family on a page, by their label.
func counters(page, family string) map[string]int {
	found := map[string]int{}
	for line := range strings.Lines(page) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if labels, ok := strings.CutPrefix(name, family+"{"); ok {
			_, label, _ := strings.Cut(strings.TrimSuffix(labels, `"}`), `"`)
			n, err := strconv.Atoi(value)
			if err != nil {
				n = -1
			}
			found[label] = n
		}
	}
	return found
}

// page reads a whole page of a listener for operators.
func (r *running) page(addr net.Addr, path string) string {
	r.tb.Helper()
	resp, err := http.Get("http://" + addr.String() + path)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.tb.Fatal(err)
	}
	return string(b)
}
