package session

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pushgate/api"
	"pushgate/internal/auth"
)

// eventsHead is a request for server-sent events or a poll.
func eventsHead(query, token string, lines ...string) string {
	head := "GET /v1/events" + query + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n"
	for _, l := range lines {
		head += l + "\r\n"
	}
	return head + "\r\n"
}

const acceptSSE = "Accept: text/event-stream"

// stream is a client of server-sent events that reads by the standard's rules.
type stream struct {
	*rawClient
	resp *http.Response
	body *bufio.Reader
	last string // last event id
}

type sseMessage struct {
	name, data, retry string
	idOnly            bool
}

func (h *testHub) stream(tb testing.TB, query, token string, lines ...string) *stream {
	tb.Helper()
	c := h.connect(tb)
	c.write(eventsHead(query, token, append(lines, acceptSSE)...))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" ||
		resp.Header.Get("X-Accel-Buffering") != "no" || !slices.Equal(resp.TransferEncoding, []string{"chunked"}) {
		b, _ := io.ReadAll(resp.Body)
		tb.Fatalf("%v %v %s", resp.Status, resp.Header, b)
	}
	return &stream{rawClient: c, resp: resp, body: bufio.NewReader(resp.Body)}
}

// message reads up to the next empty line.
func (s *stream) message() (sseMessage, error) {
	var m sseMessage
	hasID, hasData := false, false
	for {
		line, err := s.body.ReadString('\n')
		if err != nil {
			return m, err
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			m.idOnly = hasID && !hasData
			return m, nil
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			s.last, hasID = value, true
		case "data":
			m.data, hasData = m.data+value, true
		case "event":
			m.name = value
		case "retry":
			m.retry = value
		}
	}
}

// next is the next message that is one by the standard, because it has data: a
// heartbeat may come at any time.
func (s *stream) next() sseMessage {
	s.tb.Helper()
	for {
		m, err := s.message()
		if err != nil {
			s.tb.Fatal(err)
		}
		if m.data != "" {
			return m
		}
	}
}

func TestServerSentEvents(t *testing.T) {
	a := storedHub(t, nil)
	h := a.hub
	s := h.stream(t, "", grant(t, nil))
	if m := s.next(); m.name != "welcome" || !strings.Contains(m.data, `"user":"alice"`) || s.last != "s1.0" {
		t.Fatalf("%+v, last id %q", m, s.last)
	}
	a.publish("user.alice", "user.bob", "broadcast")
	h.Deliver([]api.Event{event("user.alice", `"flash"`)})
	for i, want := range []string{"s1.1", "s1.3", "s1.3"} {
		m := s.next()
		if m.name != "" || s.last != want || !strings.HasPrefix(m.data, `{"type":"event"`) {
			t.Errorf("event %d: %+v, last id %q, want %q", i, m, s.last, want)
		}
	}
	if n := h.Stats().Transports["sse"]; n != 1 {
		t.Errorf("%d event streams are counted", n)
	}
	// It comes back as EventSource does, and the header wins.
	a.publish("user.alice")
	again := h.stream(t, "?cursor=s1.0", grant(t, nil), "Last-Event-ID: s1.3")
	if m := again.next(); m.name != "welcome" || again.last != "" {
		t.Fatalf("%+v, last id %q", m, again.last)
	}
	if m := again.next(); m.name != "" || again.last != "s1.4" {
		t.Errorf("%+v, last id %q", m, again.last)
	}
	if m := again.next(); m.name != "resumed" || !strings.Contains(m.data, `"complete":true,"replayed":1`) {
		t.Errorf("%+v", m)
	}
	other := h.stream(t, "?cursor=gone.3", grant(t, nil))
	other.next()
	if m := other.next(); m.name != "resumed" || !strings.Contains(m.data, `"complete":false`) || other.last != "s1.4" {
		t.Errorf("%+v, last id %q", m, other.last)
	}
	// Who leaves is gone at once. With a heartbeat unread, Close would reset the
	// connection: that is no leaving.
	for _, s := range []*stream{again, other} {
		if err := s.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "two are gone", func() bool { return h.Stats().Transports["sse"] == 1 })
	if n := h.Stats().Closes[api.ReasonClient.String()]; n != 2 {
		t.Errorf("%d left by themselves, want 2", n)
	}
}

func TestSSEHeartbeatAndEnd(t *testing.T) {
	clock := newStillClock()
	a := storedHub(t, func(c *Config) { c.Now, c.Heartbeat = clock.now, 2*time.Second })
	s := a.hub.stream(t, "", grant(t, map[string]any{"exp": clock.now().Add(4 * time.Second).Unix()}))
	s.next()
	a.publish("user.bob") // not alice's: her place moves on all the same
	clock.move(a.hub, time.Second)
	if m, err := s.message(); err != nil || !m.idOnly || s.last != "s1.1" {
		t.Errorf("%+v, last id %q, %v", m, s.last, err)
	}
	clock.move(a.hub, 3*time.Second)
	if m := s.next(); m.name != "close" || m.data != `{"code":4200,"reason":"token expired"}` {
		t.Errorf("%+v", m)
	}
	if _, err := s.message(); err != io.EOF {
		t.Errorf("behind the end: %v", err)
	}
	plain := startHub(t, func(c *Config) { c.Heartbeat = time.Second })
	c := plain.connect(t)
	c.write(eventsHead("", "alice", acceptSSE))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for !strings.Contains(text, "\n\n:\n\n") { // without a stream a comment
		b := make([]byte, 100)
		n, err := resp.Body.Read(b)
		if err != nil {
			t.Fatalf("%q, %v", text, err)
		}
		text += string(b[:n])
	}
}

func TestSSEDrain(t *testing.T) {
	h := startHub(t, nil)
	s := h.stream(t, "", "alice")
	s.next()
	go h.Drain(t.Context(), 0, nil)
	if m := s.next(); m.name != "drain" || m.retry == "" {
		t.Errorf("%+v", m)
	}
	if m := s.next(); m.name != "close" || m.data != `{"code":1001,"reason":"going away"}` {
		t.Errorf("%+v", m)
	}
	if _, err := s.message(); err != io.EOF {
		t.Error(err)
	}
}

func TestChunks(t *testing.T) {
	var all []byte
	var ends []int
	for _, n := range []int{0, 1, 15, 16, 255, 4096, 70000} {
		all = append(all, finishChunk(append(beginFrame(nil), strings.Repeat("x", n)...))...)
		ends = append(ends, len(all))
	}
	at := 0
	for _, want := range ends {
		if at = chunkEnd(all, at); at != want {
			t.Fatalf("a chunk ends at %d, want %d", at, want)
		}
	}
	if got := string(finishChunk(append(beginFrame(nil), "hello"...))); got != "5\r\nhello\r\n" {
		t.Errorf("%q", got)
	}
}

// polled is the answer to a poll.
type polled struct {
	Events   []map[string]any `json:"events"`
	Cursor   string           `json:"cursor"`
	Complete bool             `json:"complete"`
	More     bool             `json:"more"`
}

func (p *polled) seqs(t testing.TB) (seqs []uint64) {
	for _, e := range p.Events {
		seqs = append(seqs, seqOf(t, e))
	}
	return seqs
}

// poll asks on an open connection and reads the answer.
func (c *rawClient) poll(query, token string, lines ...string) (*http.Response, polled) {
	c.tb.Helper()
	// Each has its time: a connection may be polled through a long test.
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	c.write(eventsHead(query, token, lines...))
	return c.pollAnswer()
}

func (c *rawClient) pollAnswer() (*http.Response, polled) {
	c.tb.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.tb.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.tb.Fatal(err)
	}
	var p polled
	if err := json.Unmarshal(body, &p); err != nil {
		c.tb.Fatalf("%q: %v", body, err)
	}
	return resp, p
}

func TestPolling(t *testing.T) {
	a := storedHub(t, nil)
	h := a.hub
	c, token := h.connect(t), grant(t, nil)
	resp, p := c.poll("", token)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" || resp.Close ||
		len(p.Events) != 0 || p.Cursor != "s1.0" || !p.Complete || p.More {
		t.Fatalf("%v %v %+v", resp.Status, resp.Header, p)
	}
	a.publish("user.alice", "user.bob", "broadcast", "user.bob")
	if _, p = c.poll("?cursor="+p.Cursor, token); !slices.Equal(p.seqs(t), []uint64{1, 3}) || p.Cursor != "s1.4" || !p.Complete || p.More {
		t.Fatalf("%+v", p)
	}
	// A cursor of another stream: the app must reload.
	if _, p = c.poll("?cursor=gone.7", token); len(p.Events) != 0 || p.Cursor != "s1.4" || p.Complete {
		t.Errorf("%+v", p)
	}
	// Two requests in one go are answered one after the other.
	c.write(eventsHead("?cursor=s1.0", token) + eventsHead("?cursor=s1.1", token))
	if _, p = c.pollAnswer(); !slices.Equal(p.seqs(t), []uint64{1, 3}) {
		t.Errorf("%+v", p)
	}
	if _, p = c.pollAnswer(); !slices.Equal(p.seqs(t), []uint64{3}) {
		t.Errorf("%+v", p)
	}
	eventually(t, "the connection waits for its next request", func() bool {
		st := h.Stats()
		return st.Idle == 1 && st.Sessions == 0 && st.Accepted == 1 && h.halfOpen.Load() == 0 && st.Polls == 5
	})
	// The last one, as the client says.
	if resp, _ = c.poll("?cursor=s1.0", token, "Connection: close"); !resp.Close {
		t.Errorf("%v", resp.Header)
	}
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("the connection goes on: %v", err)
	}
	// A refusal ends the connection, and says why.
	c = h.connect(t)
	c.poll("", token)
	c.write(eventsHead("?wait=1m", token))
	if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Error(resp, err)
	}
	eventually(t, "nothing is left", func() bool { return h.open.Load() == 0 })
}

func TestLongPoll(t *testing.T) {
	clock := newStillClock()
	a := storedHub(t, func(c *Config) { c.Now = clock.now })
	h := a.hub
	c, token := h.connect(t), grant(t, nil)
	c.write(eventsHead("?wait=30s", token))
	eventually(t, "it is parked", func() bool { return h.Stats().Transports["poll"] == 1 })
	clock.move(h, 30*time.Second-time.Millisecond)
	if n := h.Stats().Polls; n != 0 {
		t.Error("it is answered before its time")
	}
	clock.move(h, time.Millisecond)
	if _, p := c.pollAnswer(); len(p.Events) != 0 || p.Cursor != "s1.0" || !p.Complete {
		t.Errorf("%+v", p)
	}
	// The clock stands from here on: what is answered was not waited for.
	c.write(eventsHead("?wait=50s&cursor=s1.0", token))
	eventually(t, "it is parked", func() bool { return h.Stats().Transports["poll"] == 1 })
	a.publish("user.bob", "user.alice", "user.alice")
	if _, p := c.pollAnswer(); len(p.Events) == 0 || seqOf(t, p.Events[0]) != 2 {
		t.Errorf("%+v", p)
	} else if last := p.seqs(t); p.Cursor != fmt.Sprintf("s1.%d", last[len(last)-1]) {
		t.Errorf("%v with %q", last, p.Cursor)
	}
	// What is there is not waited for, and ephemeral events come as well.
	if _, p := c.poll("?wait=50s&cursor=s1.2", token); !slices.Equal(p.seqs(t), []uint64{3}) {
		t.Errorf("%+v", p)
	}
	c.write(eventsHead("?wait=50s&cursor=s1.3", token))
	eventually(t, "it is parked", func() bool { return h.Stats().Transports["poll"] == 1 })
	h.Deliver([]api.Event{event("user.alice", `"flash"`)})
	if _, p := c.pollAnswer(); len(p.Events) != 1 || p.Events[0]["data"] != "flash" || p.Cursor != "s1.3" {
		t.Errorf("%+v", p)
	}
}

// TestPollEnds: a parked poll whose session ends is told what a close code would
// have told it.
func TestPollEnds(t *testing.T) {
	clock := newStillClock()
	a := storedHub(t, func(c *Config) { c.Now = clock.now })
	h := a.hub
	park := func(claims map[string]any) *rawClient {
		c := h.connect(t)
		c.write(eventsHead("?wait=50s", grant(t, claims), "Origin: http://x"))
		eventually(t, "it is parked", func() bool { return h.Stats().Transports["poll"] == 1 })
		return c
	}
	status := func(c *rawClient) (*http.Response, string) {
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if resp.Header.Get("Access-Control-Allow-Origin") != "http://x" {
			t.Errorf("no page may read %v", resp.Header)
		}
		eventually(t, "it is gone", func() bool { return h.Stats().Sessions == 0 })
		return resp, string(b)
	}
	c := park(nil)
	h.DisconnectUser("alice")
	if resp, body := status(c); resp.StatusCode != http.StatusForbidden || !resp.Close {
		t.Error(resp.Status, body)
	}
	c = park(map[string]any{"exp": clock.now().Add(40 * time.Second).Unix()})
	clock.move(h, 40*time.Second)
	if resp, body := status(c); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "invalid_token") {
		t.Error(resp.Status, body)
	}
	c = park(nil)
	h.everywhere(func(l *loop) {
		for id := uint32(1); id < l.slots.top; id++ {
			if s := l.slots.at(id); s.state == stateOpen {
				l.close(id, s, api.ReasonOverload)
			}
		}
	})
	if resp, body := status(c); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Error(resp.Status, body)
	}
	c = park(nil)
	a.hub.Lost(5) // a gap that cannot be repaired
	if resp, body := status(c); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"complete":false`) || !strings.Contains(body, "s1.5") {
		t.Error(resp.Status, body)
	}
	c = park(nil)
	go h.Drain(t.Context(), 0, nil)
	if resp, body := status(c); resp.StatusCode != http.StatusOK || !resp.Close || !strings.Contains(body, `"complete":true`) {
		t.Error(resp.Status, body)
	}
}

func TestPollPages(t *testing.T) {
	for _, ring := range []int64{1 << 20, 8 << 10} { // from memory, and from the stream
		a := storedHub(t, func(c *Config) { c.RingBytes, c.PollBytes = ring, 10<<10 })
		for range 1000 {
			a.publish("broadcast", "user.bob")
		}
		c, token, cursor := a.hub.connect(t), grant(t, nil), "s1.0"
		var seqs []uint64
		pages := 0
		for more := true; more; pages++ {
			resp, p := c.poll("?cursor="+cursor, token)
			if !p.Complete || len(p.Events) == 0 && p.More || resp.ContentLength > 10<<10+256 {
				t.Fatalf("%d bytes: %+v", resp.ContentLength, p)
			}
			seqs = append(seqs, p.seqs(t)...)
			cursor, more = p.Cursor, p.More
		}
		if d := difference(seqs, a.want(0, "broadcast")); d != "" || pages < 3 || cursor != "s1.2000" {
			t.Errorf("%d pages, %s, up to %s", pages, d, cursor)
		}
	}
}

// TestPollBytes: an answer has no more events than fit, but one always does, be
// they from before or of now; the rest is the next one's.
func TestPollBytes(t *testing.T) {
	a := storedHub(t, func(c *Config) { c.Loops, c.PollBytes = 1, 1 })
	c, token := a.hub.connect(t), grant(t, nil)
	a.publish("user.alice", "user.alice", "user.alice")
	for n := range uint64(3) {
		_, p := c.poll(fmt.Sprint("?cursor=s1.", n), token)
		if !slices.Equal(p.seqs(t), []uint64{n + 1}) || p.Cursor != fmt.Sprint("s1.", n+1) || p.More != (n < 2) {
			t.Errorf("behind %d: %+v", n, p)
		}
	}
	c.write(eventsHead("?wait=50s&cursor=s1.3", token))
	eventually(t, "it is parked", func() bool { return a.hub.Stats().Transports["poll"] == 1 })
	a.hold(t, func() { a.publish("user.alice", "broadcast", "user.alice") }, nil)
	_, p := c.pollAnswer()
	if !slices.Equal(p.seqs(t), []uint64{4}) || !p.More || p.Cursor != "s1.4" {
		t.Errorf("of now: %+v", p)
	}
	for n := uint64(4); n < 6; n++ {
		if _, p := c.poll(fmt.Sprint("?cursor=s1.", n), token); !slices.Equal(p.seqs(t), []uint64{n + 1}) || p.More != (n < 5) {
			t.Errorf("behind %d: %+v", n, p)
		}
	}
}

// TestPollAheadOfThisGateway waits, however little the client wants to wait,
// until the gateway is where the client was, or there is no such place.
func TestPollAheadOfThisGateway(t *testing.T) {
	clock := newStillClock()
	a := storedHub(t, func(c *Config) { c.Now = clock.now })
	c, token := a.hub.connect(t), grant(t, nil)
	a.publish("user.alice")
	c.write(eventsHead("?cursor=s1.3", token))
	eventually(t, "it is parked", func() bool { return a.hub.Stats().Transports["poll"] == 1 })
	clock.move(a.hub, aheadTicks*time.Second)
	a.publish("user.bob", "user.bob")
	clock.move(a.hub, time.Second)
	if _, p := c.pollAnswer(); len(p.Events) != 0 || !p.Complete || p.Cursor != "s1.3" {
		t.Errorf("caught up: %+v", p)
	}
	c.write(eventsHead("?cursor=s1.500", token))
	eventually(t, "it is parked", func() bool { return a.hub.Stats().Transports["poll"] == 1 })
	clock.move(a.hub, aheadTicks*time.Second)
	if n := a.hub.Stats().Polls; n != 1 {
		t.Errorf("%d polls are answered while another gateway may be ahead", n)
	}
	clock.move(a.hub, time.Second)
	if _, p := c.pollAnswer(); len(p.Events) != 0 || p.Complete || p.Cursor != "s1.3" {
		t.Errorf("no such place: %+v", p)
	}
}

// TestTransportsChange has clients change their transport with every step while
// events go on, and lose nothing.
func TestTransportsChange(t *testing.T) {
	for _, ring := range []int64{1 << 20, 20 << 10} {
		t.Run(fmt.Sprint(ring), func(t *testing.T) {
			a := storedHub(t, func(c *Config) { c.RingBytes = ring })
			const clients, events = 8, 4000
			done := make(chan struct{})
			go func() {
				defer close(done)
				for n := 0; n < events; {
					var batch []string
					for range 1 + rand.IntN(8) {
						batch = append(batch, []string{"broadcast", fmt.Sprintf("user.u%d", rand.IntN(clients)), "nobody"}[rand.IntN(3)])
					}
					a.publish(batch...)
					n += len(batch)
					pause := time.NewTimer(100 * time.Microsecond)
					<-pause.C
				}
			}()
			var all sync.WaitGroup
			for i := range clients {
				all.Go(func() { a.changeAlong(t, fmt.Sprintf("u%d", i), done) })
			}
			all.Wait()
			eventually(t, "everybody is gone", func() bool { return a.hub.open.Load() == 0 })
		})
	}
}

// changeAlong is one client, until it has everything that was published.
func (a *archive) changeAlong(t *testing.T, user string, done chan struct{}) {
	token := grant(t, map[string]any{"sub": user})
	c := a.hub.connect(t)
	_, p := c.poll("", token)
	first, cursor := p.Cursor, p.Cursor
	var got []uint64
	take := func(m map[string]any) {
		switch m["type"] {
		case "event":
			got = append(got, seqOf(t, m))
			cursor = m["cursor"].(string)
		case "resumed":
			if m["complete"] != true {
				t.Errorf("%s: %v", user, m)
			}
			cursor = m["cursor"].(string)
		}
	}
	for {
		ended := false
		select {
		case <-done:
			ended = true
		default:
		}
		switch rand.IntN(3) {
		case 0:
			ws := a.join(t, token, "cursor="+cursor)
			for range rand.IntN(20) {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				_, b, err := ws.Read(ctx)
				cancel()
				if err != nil {
					break // nothing comes any more
				}
				var m map[string]any
				if err := json.Unmarshal(b, &m); err != nil {
					t.Error(err)
				}
				take(m)
			}
			_ = ws.CloseNow()
		case 1:
			s := a.hub.stream(t, "?cursor="+cursor, token)
			for range rand.IntN(20) {
				_ = s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				m, err := s.message()
				if err != nil {
					break // nothing comes any more
				}
				var frame map[string]any
				if err := json.Unmarshal([]byte(m.data), &frame); m.data != "" && err != nil {
					t.Error(err)
				}
				take(frame)
			}
			_ = s.Close()
		default:
			for range 1 + rand.IntN(4) {
				_, p := c.poll(fmt.Sprintf("?cursor=%s&wait=%dms", cursor, rand.IntN(20)), token)
				got = append(got, p.seqs(t)...)
				if cursor = p.Cursor; !p.Complete {
					t.Errorf("%s: %+v", user, p)
				}
			}
		}
		if at, _ := api.ParseCursor(cursor); ended && at.Seq == uint64(len(a.events)) {
			break
		}
	}
	began, _ := api.ParseCursor(first)
	if d := difference(got, a.want(began.Seq, "user."+user, "broadcast")); d != "" {
		t.Errorf("%s: %s", user, d)
	}
	_ = c.Close()
}

func TestAlarms(t *testing.T) {
	var a alarms
	now := time.Now()
	for i := range uint64(1000) {
		a.add(now.Add(time.Duration(i*7919%1000)*time.Millisecond), i*7919%1000)
	}
	if got := a.until(now.Add(-30*time.Millisecond), 1000); got != 30 {
		t.Errorf("the first is %d ms away", got)
	}
	for want := range uint64(1000) {
		if tag, ok := a.take(now.Add(time.Second)); !ok || tag != want {
			t.Fatalf("%d comes as number %d", tag, want)
		}
	}
	if _, ok := a.take(now.Add(time.Hour)); ok || a.until(now, 77) != 77 {
		t.Error("there is one more")
	}
	a.add(now.Add(time.Minute), 1)
	if _, ok := a.take(now); ok {
		t.Error("one rings too early")
	}
}

// TestEventsOverTLS: both transports on a listener with TLS, the connection of
// polls kept.
func TestEventsOverTLS(t *testing.T) {
	a := storedHub(t, func(c *Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{testCertificate()}, NextProtos: []string{"http/1.1"}}
	})
	c := a.hub.connectTLS(t, clientTLS(0))
	_, p := c.poll("", grant(t, nil))
	c.write(eventsHead("?wait=50s&cursor="+p.Cursor, grant(t, nil)))
	eventually(t, "it is parked", func() bool { return a.hub.Stats().Transports["poll"] == 1 })
	a.publish("user.alice")
	if _, p = c.pollAnswer(); !slices.Equal(p.seqs(t), []uint64{1}) {
		t.Errorf("%+v", p)
	}
	big := fmt.Appendf(nil, "%q", strings.Repeat("x", 60<<10))
	a.hub.Deliver([]api.Event{{Subject: "user.alice", Seq: 2, Cursor: "s1.2", Time: time.Now(), Data: big}})
	if _, p = c.poll("?cursor=s1.1", grant(t, nil)); len(p.Events) != 1 {
		t.Errorf("%d events", len(p.Events))
	}
	raw := a.hub.connectTLS(t, clientTLS(0))
	raw.write(eventsHead("?cursor=s1.0", grant(t, nil), acceptSSE))
	resp, err := http.ReadResponse(raw.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{rawClient: raw, resp: resp, body: bufio.NewReader(resp.Body)}
	s.next() // welcome
	for _, want := range []string{"s1.1", "s1.2"} {
		if m := s.next(); m.name != "" || s.last != want {
			t.Errorf("%.200q with id %q, want %q", m.data, s.last, want)
		}
	}
	if m := s.next(); m.name != "resumed" {
		t.Errorf("%+v", m)
	}
	a.hub.DisconnectUser("alice")
	if m := s.next(); m.name != "close" || !strings.HasPrefix(m.data, `{"code":4000`) {
		t.Errorf("%+v", m)
	}
	if _, err := s.message(); err != io.EOF {
		t.Errorf("behind the end: %v", err)
	}
}

// heldBytes is what a session of a transport takes without its socket: the slope
// over n of them.
func heldBytes(tb testing.TB, n int, kind transport) float64 {
	tb.Helper()
	h := newBareHub(tb, 1)
	l := h.loops[0]
	enroll := func(i int) {
		user := fmt.Sprintf("u%07d", i)
		id, s := l.enroll(&admission{
			handshake: &handshake{fd: -1, transport: kind, wait: 30 * time.Second},
			identity:  auth.Identity{User: user, Subjects: []string{"user." + user, "broadcast"}, Expires: time.Now().Add(time.Hour).Unix()},
		})
		h.open.Add(1)
		if kind == transportPoll {
			l.parkPoll(id, s, "abcdefgh.123456")
		}
	}
	for i := range n {
		enroll(i) // what a first thousand makes is not a session's
	}
	before := heapInUse()
	for i := range n {
		enroll(n + i)
	}
	after := heapInUse()
	runtime.KeepAlive(h)
	return (float64(after) - float64(before)) / float64(n)
}

// TestHeldTransportsAreSmall: an event stream that is idle, and a poll that
// waits, cost a slot and little more, and no goroutine.
func TestHeldTransportsAreSmall(t *testing.T) {
	before := runtime.NumGoroutine()
	for kind, most := range map[transport]float64{transportSSE: 256, transportPoll: 512} {
		got := heldBytes(t, 20_000, kind)
		t.Logf("%s: %.0f bytes", transportLabels[kind], got)
		if got > most {
			t.Errorf("%s takes %.0f bytes a session, more than %.0f", transportLabels[kind], got, most)
		}
	}
	if n := runtime.NumGoroutine() - before; n > 8 { // of the two hubs
		t.Errorf("%d goroutines were added", n)
	}
}
