//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestLanesOverHTTP has clients of three lanes get one event each from a server
// that answers as the contract says, and counts what went over the wire.
func TestLanesOverHTTP(t *testing.T) {
	const event = `{"type":"event","data":%s}`
	data := payload(nil, 7, 1, time.Now().UnixNano(), 128)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ey"):
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("Accept") == "text/event-stream":
			_, _ = fmt.Fprintf(w, "event: welcome\ndata: {}\n\ndata: "+event+"\n\n", data)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case q.Get("cursor") == "":
			_, _ = fmt.Fprint(w, `{"events":[],"cursor":"e1.1"}`)
		case q.Get("cursor") == "e1.1":
			_, _ = fmt.Fprintf(w, `{"events":[`+event+`],"cursor":"e1.2"}`, data)
		case q.Get("wait") == "25s":
			<-r.Context().Done()
		default:
			_, _ = fmt.Fprint(w, `{"events":[],"cursor":"e1.2"}`)
		}
	}))
	defer server.Close()
	for _, name := range laneNames[:3] {
		t.Run(name, func(t *testing.T) {
			l := &lane{name: name, every: 10 * time.Millisecond, now: time.Now(), ready: make(chan error, 1),
				target: &target{Addr: server.Listener.Addr().String(), Users: "u", Secret: benchSecret}}
			r := newRun(0, 0)
			r.id = 7
			l.run.Store(r)
			ctx, stop := context.WithTimeout(context.Background(), time.Minute)
			ended := make(chan struct{})
			go func() { defer close(ended); l.client(ctx, 0) }()
			defer func() { stop(); <-ended }()
			if err := <-l.ready; err != nil {
				t.Fatal(err)
			}
			await(ctx, r, 1)
			if got := r.report(0); got.Arrived != 1 || got.Twice != 0 {
				t.Errorf("it got %+v", got)
			}
			if l.up.Load() == 0 || l.down.Load() < int64(len(data)) || l.requests.Load() == 0 {
				t.Errorf("counted: %d requests, %d B up, %d B down", l.requests.Load(), l.up.Load(), l.down.Load())
			}
			if name != "SSE" && l.empty.Load() == 0 {
				t.Error("no answer is counted as empty, and the first was")
			}
			if err := l.failure(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFleetOfEvents opens sessions over server-sent events.
func TestFleetOfEvents(t *testing.T) {
	release := make(chan struct{})
	data := payload(nil, 7, 1, time.Now().UnixNano(), 128)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/event-stream" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		send := func(format string, a ...any) { _, _ = fmt.Fprintf(w, format, a...); w.(http.Flusher).Flush() }
		send("event: welcome\ndata: {}\n\n")
		<-release
		send("data: {\"data\":%s}\n\n", data)
		<-r.Context().Done()
	}))
	defer server.Close()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	f, err := (&target{Addr: server.Listener.Addr().String(), Users: "u", Secret: benchSecret, Protocol: "sse"}).dial(ctx, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	r := newRun(0, 0)
	r.id = 7
	f.measure(r)
	close(release)
	await(ctx, r, 3)
	if got := r.report(f.gone.Load()); got.Arrived != 3 || got.Gone != 0 {
		t.Errorf("it got %+v", got)
	}
}

// await waits longer than settle does, which takes two seconds of silence for
// the end.
func await(ctx context.Context, r *run, want int64) {
	for r.report(0).Arrived < want && ctx.Err() == nil {
		r.settle(ctx, want)
	}
}
