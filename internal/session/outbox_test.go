package session

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushgate/api"
	"pushgate/internal/poll"
)

type wholeFrames []string

// GoString keeps the report of a failure short.
func (w wholeFrames) GoString() string {
	sizes := make([]int, len(w))
	for i, f := range w {
		sizes[i] = len(f)
	}
	return fmt.Sprintf("frames of %d bytes", sizes)
}

// genFrames makes whole frames of the sizes at which headers change, and says
// where each ends.
var genFrames = rapid.Custom(func(t *rapid.T) wholeFrames {
	size := rapid.OneOf(
		rapid.SampledFrom([]int{0, 1, 125, 126, 127, 65535, 65536, 70000}), rapid.IntRange(0, 3000))
	frames := make(wholeFrames, rapid.IntRange(1, 3).Draw(t, "frames"))
	for i := range frames {
		fill := string(rapid.SampledFrom([]byte("ab\x00\xff\x7e")).Draw(t, "fill"))
		payload := strings.Repeat(fill, size.Draw(t, "size"))
		frames[i] = string(finishText(append(beginFrame(nil), payload...)))
	}
	return frames
})

// queued is what a test has put into an outbox.
type queued struct {
	all  string
	ends []int // of each frame in all, beginning with 0
}

func (q *queued) add(frames wholeFrames) []byte {
	if len(q.ends) == 0 {
		q.ends = []int{0}
	}
	for _, f := range frames {
		q.all += f
		q.ends = append(q.ends, len(q.all))
	}
	return []byte(strings.Join(frames, ""))
}

// endFrom is the first end of a frame at or behind n.
func (q *queued) endFrom(n int) int {
	for _, end := range q.ends {
		if end >= n {
			return end
		}
	}
	return -1
}

// TestCutOutbox: what was sent and what stays is whole frames, and of the
// frames that nothing was sent of, none stays.
func TestCutOutbox(t *testing.T) {
	h := readerHub(t)
	rapid.Check(t, func(t *rapid.T) {
		l, id := enrollUser(h, "alice", time.Now().Add(time.Hour).Unix())
		defer l.discard(id)
		s := l.slots.at(id)
		q := &queued{ends: []int{0}}
		for _, frames := range rapid.SliceOfN(genFrames, 0, 4).Draw(t, "segments") {
			l.enqueue(id, l.trafficOf(id, s), segment{frames: q.add(frames)})
		}
		sent := rapid.OneOf(
			rapid.IntRange(0, len(q.all)),
			rapid.Map(rapid.SampledFrom(q.ends), func(end int) int { return min(end+1, len(q.all)) }),
			rapid.SampledFrom(q.ends),
		).Draw(t, "sent")
		if s.active != 0 {
			l.advance(l.active[s.active], sent)
		}
		check := func(when, want string) {
			if got := l.outbox(s); got != want {
				t.Fatalf("%s %d bytes are left, want %d", when, len(got), len(want))
			}
			if got := l.stats.outbox.Load(); got != int64(len(want)) || s.active != 0 && l.active[s.active].outBytes != len(want) {
				t.Fatalf("%s %d bytes are counted of %d", when, got, len(want))
			}
		}
		check("after sending", q.all[sent:])
		l.cutOutbox(s)
		check("after the cut", q.all[sent:q.endFrom(sent)])
		l.cutOutbox(s)
		check("after a second cut", q.all[sent:q.endFrom(sent)])
	})
	if n := h.loops[0].stats.outbox.Load(); n != 0 {
		t.Errorf("%d bytes are counted of no session", n)
	}
}

// wired is a session of a bare loop with a real socket, and its client.
func wired(t *rapid.T, h *Hub, ln *poll.Listener) (l *loop, id uint32, s *slot, client *net.TCPConn) {
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = conn.(*net.TCPConn)
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	l, id = enrollUser(h, "alice", time.Now().Add(time.Hour).Unix())
	s = l.slots.at(id)
	for s.fd, _, err = ln.Accept(); err == poll.ErrAgain; s.fd, _, err = ln.Accept() {
		<-time.After(time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.poller.Add(s.fd, tagSession(id, s.gen)); err != nil {
		t.Fatal(err)
	}
	return l, id, s, client
}

// TestWritingInOrder: whatever the socket takes at a time, the client gets
// every byte once and in order; and when it is cut off as slow in between,
// whole frames and then the close frame.
func TestWritingInOrder(t *testing.T) {
	h := readerHub(t)
	ln, err := poll.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	full, cut := 0, 0
	property := func(t *rapid.T) {
		l, id, s, client := wired(t, h, ln)
		defer func() { _ = client.Close() }()
		gen := s.gen
		q, got := &queued{ends: []int{0}}, &bytes.Buffer{}
		waiting := func() int { return len(l.outbox(s)) }
		write := func() {
			switch {
			case s.active == 0:
			case l.active[s.active].full:
				full++
				l.onWritable(id, s)
			default:
				l.active[s.active].touched = false
				l.flush(id, s)
			}
		}
		check := func() {
			n := waiting()
			if l.stats.outbox.Load() != int64(n) || s.active != 0 && l.active[s.active].outBytes != n {
				t.Fatalf("%d bytes wait, %d are counted", n, l.stats.outbox.Load())
			}
		}
		read := func(n int) {
			if _, err := io.CopyN(got, client, int64(n)); err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				l.enqueue(id, l.trafficOf(id, s), segment{frames: q.add(genFrames.Draw(t, "frames"))})
			case 2:
				write()
			default:
				written := len(q.all) - waiting() - got.Len()
				read(rapid.IntRange(0, written).Draw(t, "read"))
			}
			check()
		}
		want := q.all
		if slow := rapid.Bool().Draw(t, "slow"); slow {
			sent := len(q.all) - waiting()
			want = q.all[:q.endFrom(sent)] + string(appendCloseFrame(nil, 4100, api.ReasonSlow.Text()))
			if want[sent:] != "" && q.endFrom(sent) > sent {
				cut++
			}
			l.close(id, s, api.ReasonSlow)
		}
		for waiting() > 0 {
			write()
			check()
			read(len(want) - waiting() - got.Len())
		}
		read(len(want) - got.Len())
		if got.String() != want {
			t.Fatalf("the client got %d bytes, want %d, or others", got.Len(), len(want))
		}
		if s.state == stateOpen {
			if write(); s.active != 0 {
				t.Fatal("an empty outbox is kept")
			}
			l.close(id, s, api.ReasonLost)
		} else {
			if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Fatalf("behind the close frame come %d bytes, %v", n, err)
			}
			l.lost(id, s)
		}
		l.touched = l.touched[:0]
		if s.gen == gen || s.state != stateFree {
			t.Fatal("the slot is not free")
		}
	}
	// With -short there are so few cases that sometimes no frame is half sent.
	for n := 0; n < 10 && (full == 0 || cut == 0); n++ {
		rapid.Check(t, property)
	}
	if full == 0 || cut == 0 {
		t.Errorf("%d times the socket was full, %d times a frame was half sent: nothing was tried", full, cut)
	}
}
