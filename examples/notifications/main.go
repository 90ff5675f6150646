// Notifications that reach the phone when nobody looks at the page.
//
//	go run ./examples/notifications
//
// The backend publishes on push.user.<user>, and JetStream's answer tells the
// event's place in the stream. A client acknowledges what it has shown; the
// gateway publishes that on pushgate.ack.<user>. Without an acknowledgement in
// time the backend falls back to FCM, APNs or Web Push: here it prints a line.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"pushgate/examples/local"
)

//go:embed page.html
var page []byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := serve(ctx, "127.0.0.1:8091", 5*time.Second, os.Stdout, func(url string) {
		fmt.Printf("notifications: open %s/?user=alice, then\n  curl -d 'your taxi is here' %s/notify/alice\n  curl -d 'your taxi is here' %s/notify/bob\n", url, url, url)
	})
	if err != nil {
		log.Fatal(err)
	}
}

// serve gives clients patience to acknowledge, and writes to phones what they
// did not.
func serve(ctx context.Context, listen string, patience time.Duration, phones io.Writer, ready func(url string)) error {
	return local.Serve(ctx, listen, "", ready, func(l *local.Local, mux *http.ServeMux) error {
		js, err := jetstream.New(l.NATS, jetstream.WithDefaultTimeout(30*time.Second))
		if err != nil {
			return err
		}
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })

		// The login of a real application stands here.
		mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
			token, err := l.Token(r.URL.Query().Get("user"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": token, "gateway": l.Gateway})
		})

		// In a real application another service does this, when something happened.
		mux.HandleFunc("POST /notify/{user}", func(w http.ResponseWriter, r *http.Request) {
			text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<10))
			if err != nil {
				http.Error(w, "at most 4 KiB", http.StatusRequestEntityTooLarge)
				return
			}
			user := r.PathValue("user")
			seen, err := notify(r.Context(), l.NATS, js, user, text, patience)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway) // not stored: try again
				return
			}
			if !seen {
				_, _ = fmt.Fprintf(phones, "push notification to %s's phone: %s\n", user, text)
			}
			_ = json.NewEncoder(w).Encode(map[string]bool{"seen": seen})
		})
		return nil
	})
}

// notify publishes, and waits until some client of the user has acknowledged
// that event or a later one.
func notify(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, user string, text []byte, patience time.Duration) (bool, error) {
	acks, err := nc.SubscribeSync("pushgate.ack." + user)
	if err != nil {
		return false, err
	}
	defer func() { _ = acks.Unsubscribe() }()
	published, err := js.Publish(ctx, "push.user."+user, text)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		m, err := acks.NextMsgWithContext(ctx)
		if err != nil {
			return false, nil // nobody did, in time
		}
		var ack struct {
			Seq uint64 `json:"seq"`
		}
		if json.Unmarshal(m.Data, &ack) == nil && ack.Seq >= published.Sequence {
			return true, nil
		}
	}
}
