//go:build !nodev

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"pushgate/web"
)

// A gateway goes away and comes back with another secret: the page sees the
// drain, waits, learns that its token is worth nothing, and gets a new one.
func TestPageSurvivesRestart(t *testing.T) {
	browser := newBrowser(t)
	d := startDev(t)
	p := openTab(t, browser, d.console())
	p.meant = failedRequests
	p.awaitStatus("Connected as alice")
	d.stop()
	p.awaitLog("drain reconnect_after_ms=")
	p.awaitLog("closed with 1001 going away")
	p.awaitStatus("Reconnecting in ")

	address, err := url.Parse(d.page)
	if err != nil {
		t.Fatal(err)
	}
	again := startDev(t, "GATEWAY_LISTEN="+address.Host)
	p.awaitStatus("Connected as alice")
	again.publish(message("push.user.alice", "still here"))
	p.awaitEvent(`"still here"`)
}

// A token that ends is replaced by a new one at once. It lasts long enough for a
// session of some seconds, however late that begins.
func TestPageRenewsToken(t *testing.T) {
	browser := newBrowser(t)
	d := startDev(t, "GATEWAY_AUTH_MAX_LIFETIME=10s", "GATEWAY_HEARTBEAT=4s")
	p := openTab(t, browser, d.console())
	p.awaitLog("pong") // half a heartbeat of silence
	p.awaitLog("closed with 4200 token expired")
	p.awaitLog("reconnecting in 0 ms")
	p.await(`document.querySelector("#log").textContent.split("welcome session=").length > 2`)
	p.awaitStatus("Connected as alice")
}

// pageGateway serves the page and does to its connections what a real gateway
// does rarely.
type pageGateway struct {
	*httptest.Server
	mu     sync.Mutex
	tokens int      // given out
	seen   []string // token and cursor of each connection
}

// newPageGateway has a function for each connection in turn; the last one
// serves all that follow. heartbeat is what they are welcomed with.
func newPageGateway(t *testing.T, heartbeat int, connections ...func(context.Context, *websocket.Conn)) *pageGateway {
	t.Helper()
	f := &pageGateway{}
	ctx, cancel := context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", served("console.html"))
	mux.HandleFunc("GET /dev/token", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.tokens++
		answer(w, map[string]any{"token": fmt.Sprint("token-", f.tokens)})
	})
	mux.HandleFunc("GET /v1/ws", func(w http.ResponseWriter, r *http.Request) {
		_, token, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), "bearer.")
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"pushgate.v1"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.CloseNow() }()
		f.mu.Lock()
		serve := connections[min(len(f.seen), len(connections)-1)]
		f.seen = append(f.seen, token+" "+r.URL.Query().Get("cursor"))
		f.mu.Unlock()
		welcome := fmt.Sprintf(`{"type":"welcome","session":"s","user":"alice","subjects":[],"expires":"2030-01-02T03:04:05Z","heartbeat":%d,"cursor":"e1.7"}`, heartbeat)
		if conn.Write(ctx, websocket.MessageText, []byte(welcome)) == nil {
			serve(ctx, conn)
		}
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(func() { cancel(); f.Close() })
	return f
}

func (f *pageGateway) connections() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

// stay holds a connection until the client ends it.
func stay(ctx context.Context, conn *websocket.Conn) {
	for {
		if _, _, err := conn.Read(ctx); err != nil {
			return
		}
	}
}

func thenClose(code websocket.StatusCode, frames ...string) func(context.Context, *websocket.Conn) {
	return func(ctx context.Context, conn *websocket.Conn) {
		for _, frame := range frames {
			if conn.Write(ctx, websocket.MessageText, []byte(frame)) != nil {
				return
			}
		}
		if code == websocket.StatusAbnormalClosure {
			return // the connection just ends
		}
		_ = conn.Close(code, "why")
	}
}

func TestPageAfterClose(t *testing.T) {
	browser := newBrowser(t)
	const drain, event = `{"type":"drain","reconnect_after_ms":700}`,
		`{"type":"event","subject":"user.alice","cursor":"e1.9","time":"2026-01-02T03:04:05.678Z","data":1}`
	const replayed = `{"type":"event","subject":"rooms.1","cursor":"e1.3","time":"2026-01-02T03:04:05.678Z","data":1,"replay":true}`
	for _, tc := range []struct {
		name   string
		first  func(context.Context, *websocket.Conn)
		log    string // what the page notes
		second string // token and cursor of the second connection, none when it stops
	}{
		{"drain", thenClose(1001, drain), "reconnecting in 700 ms", "token-1 e1.7"},
		{"lost", thenClose(1006, event, replayed), "closed with 1006", "token-1 e1.9"},
		{"failed", thenClose(1011), "closed with 1011 why", "token-1 e1.7"},
		{"slow", thenClose(4100), "closed with 4100 why", "token-1 e1.7"},
		{"expired", thenClose(4200), "reconnecting in 0 ms", "token-2 e1.7"},
		{"flood", thenClose(1008), "closed with 1008 why", ""},
		{"replaced", thenClose(4001), "closed with 4001 why", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newPageGateway(t, 60, tc.first, stay)
			p := openTab(t, browser, f.URL)
			p.awaitLog(tc.log)
			if tc.second == "" {
				p.awaitStatus("Stopped: closed with ")
				if seen := f.connections(); len(seen) != 1 {
					t.Errorf("it connected with %q", seen)
				}
				return
			}
			eventually(t, "a second connection", func() bool { return len(f.connections()) >= 2 })
			p.awaitStatus("Connected as alice")
			if seen := f.connections(); seen[1] != tc.second {
				t.Errorf("it connected with %q, want %q", seen, tc.second)
			}
		})
	}
}

// A gateway that says nothing at all is asked once, and then given up.
func TestPageGivesUpSilence(t *testing.T) {
	browser := newBrowser(t)
	asked := make(chan string, 1)
	f := newPageGateway(t, 1, func(ctx context.Context, conn *websocket.Conn) {
		_, message, err := conn.Read(ctx)
		if err != nil {
			message = []byte(err.Error())
		}
		asked <- string(message)
		stay(ctx, conn)
	}, stay)
	p := openTab(t, browser, f.URL)
	if got := <-asked; got != `{"type":"ping"}` {
		t.Errorf("it said %s", got)
	}
	p.awaitLog("gave up: silent for 1 s")
	eventually(t, "a second connection", func() bool { return len(f.connections()) >= 2 })
}

// A handshake that is refused for good ends the tries, with the reason that
// only /v1/events can tell.
func TestPageTellsRefusal(t *testing.T) {
	browser := newBrowser(t)
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"error":"forbidden","message":"your token says too much"}`)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", served("console.html"))
	mux.HandleFunc("GET /dev/token", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{"token": "t"}) })
	mux.HandleFunc("GET /v1/ws", refuse)
	mux.HandleFunc("GET /v1/events", refuse)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	p := openTab(t, browser, s.URL)
	p.meant = failedRequests
	p.awaitStatus("Stopped: refused: your token says too much")
}

// Each page is one file that loads nothing.
func TestPagesLoadNothing(t *testing.T) {
	for _, name := range []string{"index.html", "console.html"} {
		b, err := web.Page.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s := bufio.NewScanner(strings.NewReader(string(b)))
		for n := 1; s.Scan(); n++ {
			line := strings.ReplaceAll(s.Text(), "http://www.w3.org/2000/svg", "")
			if regexp.MustCompile(`(?i)https?://|<script [^>]*src|@import|innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b`).MatchString(line) {
				t.Errorf("%s:%d: %s", name, n, line)
			}
		}
	}
}
