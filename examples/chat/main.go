// Chat: several users, in rooms that not everybody may see.
//
//	go run ./examples/chat
//
// Whoever writes posts to this backend, which knows who may. It publishes on
// push.rooms.<room>, and the gateway brings it to all who subscribed. Which
// rooms a client may subscribe to stands in its token.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"slices"

	"pushgate/examples/local"
)

//go:embed page.html
var page []byte

// members are who may read and write in a room; the lobby is everybody's.
var members = map[string][]string{"staff": {"alice", "bob"}}

func mayEnter(user, room string) bool {
	return room == "lobby" || slices.Contains(members[room], user)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := serve(ctx, "127.0.0.1:8090", func(url string) {
		fmt.Printf("chat: open %s/?user=alice, and %s/?user=carol beside it\n", url, url)
	})
	if err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, listen string, ready func(url string)) error {
	return local.Serve(ctx, listen, "", ready, func(l *local.Local, mux *http.ServeMux) error {
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })

		// The login of a real application stands here.
		mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
			user := r.URL.Query().Get("user")
			rooms := []string{"lobby"}
			for room := range members {
				if mayEnter(user, room) {
					rooms = append(rooms, room)
				}
			}
			grants := make([]string, len(rooms))
			for i, room := range rooms {
				grants[i] = "rooms." + room
			}
			token, err := l.Token(user, grants...)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "gateway": l.Gateway, "rooms": rooms})
		})

		mux.HandleFunc("POST /rooms/{room}", func(w http.ResponseWriter, r *http.Request) {
			user, err := l.User(r)
			if err != nil {
				http.Error(w, "log in first", http.StatusUnauthorized)
				return
			}
			room := r.PathValue("room")
			if !mayEnter(user, room) {
				http.Error(w, "not your room", http.StatusForbidden)
				return
			}
			var text string
			if json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&text) != nil {
				http.Error(w, "the body is one JSON string of at most 4 KiB", http.StatusBadRequest)
				return
			}
			event, err := json.Marshal(map[string]string{"from": user, "text": text})
			if err == nil {
				err = l.NATS.Publish("push.rooms."+room, event)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			w.WriteHeader(http.StatusAccepted)
		})
		return nil
	})
}
