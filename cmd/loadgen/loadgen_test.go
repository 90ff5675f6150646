//go:build linux

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNextFrame(t *testing.T) {
	long := bytes.Repeat([]byte("y"), 70_000)
	for _, n := range []int{0, 1, 125, 126, 65_535, 65_536, 70_000} {
		frame := serverFrame(opText, long[:n])
		both := append(bytes.Clone(frame), serverFrame(opPing, []byte("hi"))...)
		for cut := 0; cut < min(len(frame), 12); cut++ {
			if _, _, _, ok, err := nextFrame(frame[:cut]); ok || err != nil {
				t.Fatalf("%d of %d bytes: ok %v, err %v", cut, len(frame), ok, err)
			}
		}
		op, body, rest, ok, err := nextFrame(both)
		if !ok || err != nil || op != opText || !bytes.Equal(body, long[:n]) {
			t.Fatalf("a frame of %d bytes is read as op %d, %d bytes, ok %v, %v", n, op, len(body), ok, err)
		}
		if op, body, rest, ok, err = nextFrame(rest); !ok || err != nil || op != opPing || string(body) != "hi" || len(rest) != 0 {
			t.Fatalf("the frame behind it: op %d, %q, ok %v, %v", op, body, ok, err)
		}
	}
	if _, _, _, _, err := nextFrame(clientFrame(opText, []byte("x"))); err == nil {
		t.Error("a masked frame is taken from a server")
	}
}

// serverFrame is a frame as servers send it: a client's without its mask bit
// and mask, and with long lengths.
func serverFrame(op byte, payload []byte) []byte {
	if len(payload) < 1<<16 {
		b := clientFrame(op, payload)
		b[1] &^= 0x80
		at := len(b) - len(payload)
		return append(b[:at-4], payload...)
	}
	n := len(payload)
	head := []byte{0x80 | op, 127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	return append(head, payload...)
}

func TestPayload(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		run, seq := rapid.Uint32().Draw(t, "run"), rapid.Uint32().Draw(t, "seq")
		sent := rapid.Int64Min(0).Draw(t, "sent")
		size := rapid.IntRange(100, 400).Draw(t, "size")
		b := payload([]byte(`{"type":"event","data":`), run, seq, sent, size)
		if got := len(b) - len(`{"type":"event","data":`); got != size {
			t.Fatalf("a payload of %d bytes has %d", size, got)
		}
		b = payload(append(b, '}'), run, seq+1, sent, size)
		r1, s1, at, rest, ok := nextEvent(b)
		if !ok || r1 != run || s1 != seq || at != sent {
			t.Fatalf("the first is read as %d %d %d %v", r1, s1, at, ok)
		}
		r2, s2, _, rest, ok := nextEvent(rest)
		if !ok || r2 != run || s2 != seq+1 {
			t.Fatalf("the second is read as %d %d %v", r2, s2, ok)
		}
		if _, _, _, _, ok := nextEvent(rest); ok {
			t.Fatal("there is a third")
		}
	})
}

func TestTracker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr tracker
		seen := map[uint32]bool{}
		newest := uint32(0)
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			seq := uint32(rapid.IntRange(max(1, int(newest)-63), int(newest)+3).Draw(t, "seq"))
			want := late
			switch {
			case seq > newest:
				want, newest = inOrder, seq
			case seen[seq]:
				want = twice
			}
			seen[seq] = true
			if got := tr.take(1, seq); got != want {
				t.Fatalf("event %d, newest %d: %d, want %d", seq, newest, got, want)
			}
		}
		if tr.take(2, 1) != inOrder {
			t.Fatal("another run begins anew")
		}
	})
}

func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h histogram
		values := rapid.SliceOfN(rapid.Int64Range(0, 1<<40), 1, 100).Draw(t, "values")
		largest := int64(0)
		for _, v := range values {
			h.add(time.Duration(v))
			largest = max(largest, v)
		}
		top := int64(h.quantile(1))
		if top <= largest || float64(top) > float64(largest)*1.07+2 {
			t.Fatalf("the largest is %d, the quantile 1 says %d", largest, top)
		}
		if h.quantile(0.5) > h.quantile(0.99) {
			t.Fatal("quantiles fall")
		}
	})
}

// TestFanoutAgainstFloor runs the clients, the window and the accounting for
// real, against the bare loop.
func TestFanoutAgainstFloor(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ready, served := make(chan [2]string, 1), make(chan error, 1)
	floor := &floorCommand{Listen: "127.0.0.1:0", Control: "127.0.0.1:0", Threads: 2,
		ready: func(addr, control string) { ready <- [2]string{addr, control} }}
	serving, stop := context.WithCancel(ctx)
	go func() { served <- floor.Run(serving) }()
	addrs := <-ready

	c := &fanoutCommand{
		target:   target{Addr: addrs[0], Control: addrs[1], Secret: "s", Protocol: "pushgate", Users: "u", PID: os.Getpid()},
		Sessions: 50, Window: 4, Size: 256, Warmup: 50 * time.Millisecond, Time: 300 * time.Millisecond,
	}
	res, err := c.measure(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if res.Events == 0 || res.Deliveries != res.Events*50 || res.Lost+res.Duplicated+res.Late+res.Gone != 0 {
		t.Errorf("the run gave %+v", res)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestDialSaysWhy(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		target target
		n      int
	}{
		"nobody listens": {target{Addr: freeAddr(), Protocol: "pushgate"}, 1},
		"no address":     {target{Addr: "localhost:80"}, 1},
		"too many":       {target{Addr: "127.0.0.1:80"}, maxClients + 1},
	} {
		if f, err := c.target.dial(ctx, 0, c.n); err == nil {
			f.close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMetronome(t *testing.T) {
	n := 0
	got, err := metronome(1000, 50*time.Millisecond, func(i int, _ time.Time) error {
		if i != n {
			t.Fatalf("beat %d after %d", i, n-1)
		}
		n++
		return nil
	})
	if err != nil || got != 50 || n != 50 {
		t.Errorf("%d beats, %v", got, err)
	}
	if _, err := metronome(1000, time.Second, func(int, time.Time) error { return io.EOF }); err != io.EOF {
		t.Errorf("an error does not end it: %v", err)
	}
}
