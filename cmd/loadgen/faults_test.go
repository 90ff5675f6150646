//go:build linux

package main

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

func TestInflater(t *testing.T) {
	documents, err := readCorpus()
	if err != nil || len(documents) < 5 {
		t.Fatalf("%d documents, %v", len(documents), err)
	}
	f := newInflater()
	for _, d := range documents {
		if !json.Valid(d) || len(d) < 1500 || len(d) > 2500 {
			t.Errorf("a document of %d bytes, valid: %v", len(d), json.Valid(d))
		}
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(d); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := f.message(bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff}))
			if err != nil || !bytes.Equal(got, d) {
				t.Fatalf("inflated to %q, %v", got, err)
			}
		}
	}
	if f.equal != int64(len(documents)) {
		t.Errorf("%d of %d second looks were spared", f.equal, len(documents))
	}
	if _, err := f.message([]byte("no deflate")); err == nil {
		t.Error("nonsense is inflated")
	}
}

func TestDrainWait(t *testing.T) {
	for frame, want := range map[string]uint16{
		`{"type":"drain","reconnect_after_ms":417,"cursor":"e1.7"}`: 417,
		`{"type":"drain","reconnect_after_ms":-1}`:                  0,
		`{"type":"event","data":{"reconnect_after_ms":417}}`:        0,
	} {
		if got := drainWait([]byte(frame)); got != want {
			t.Errorf("%s: %d, not %d", frame, got, want)
		}
	}
}

func TestMoves(t *testing.T) {
	c := &drainCommand{Sessions: 4, Delay: time.Second, Window: 10 * time.Second}
	began := time.Now()
	var m moves
	for _, at := range []float64{0.5, 2, 11, 11.3} { // one before the window, one behind it
		m.closed(began.Add(time.Duration(at * float64(time.Second))))
		m.arrived(began.Add(time.Duration((at + 0.1) * float64(time.Second))))
	}
	got := m.result(c, began)
	if got["share closed 1001"] != 1 || got["share inside the window"] != 0.5 || got["arrivals/s, peak"] != 2 {
		t.Errorf("%v", got)
	}
}

// TestSocketMemory has a connection hold what its client does not read.
func TestSocketMemory(t *testing.T) {
	l, client, server := tcpPair(t)
	defer func() { _ = l.Close() }()
	defer func() { _ = client.Close() }()
	defer func() { _ = server.Close() }()
	target := &target{Addr: l.Addr().String()}
	before, err := target.socketMemory()
	if err != nil {
		t.Fatal(err)
	}
	// First the client's end is filled, then the server's, which is looked at.
	n, after := 0, before
	block := make([]byte, 64<<10)
	for end := time.Now().Add(30 * time.Second); after-before < 64<<10; {
		if time.Now().After(end) {
			t.Fatalf("%d bytes were written, and the kernel holds %d more", n, after-before)
		}
		if err := server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		k, err := server.Write(block)
		if n += k; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if after, err = target.socketMemory(); err != nil {
			t.Fatal(err)
		}
	}
}

func tcpPair(t *testing.T) (net.Listener, net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return l, client, server
}
