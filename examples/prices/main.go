// Prices: many changes a second, of which a client needs the newest only.
//
//	go run ./examples/prices
//
// Each event carries Push-Collapse: while it waits for a client that is slow,
// a newer one of the same subject takes its place, so that nobody reads old
// prices. A client that comes has all prices at once, by "from":"last".
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/nats-io/nats.go"

	"pushgate/examples/local"
)

//go:embed page.html
var page []byte

// config: of the prices that wait for a client, the newest of each subject is
// kept, and the client is not closed for being slow.
const config = `
slow_consumers:
  - subject: "prices.>"
    policy: latest
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := serve(ctx, "127.0.0.1:8092", func(url string) { fmt.Printf("prices: open %s/\n", url) })
	if err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, listen string, ready func(url string)) error {
	return local.Serve(ctx, listen, config, ready, func(l *local.Local, mux *http.ServeMux) error {
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
		mux.HandleFunc("POST /login", func(w http.ResponseWriter, _ *http.Request) {
			token, err := l.Token("guest", "prices.>")
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": token, "gateway": l.Gateway})
		})
		go trade(ctx, l.NATS)
		return nil
	})
}

// trade moves one of the prices every ten milliseconds.
func trade(ctx context.Context, nc *nats.Conn) {
	names, prices := []string{"EURUSD", "GBPUSD", "USDJPY", "XAUUSD"}, []float64{1.08, 1.27, 151.2, 2320}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		i := n % len(names)
		prices[i] *= 1 + (rand.Float64()-.5)/1000
		m := nats.NewMsg("push.prices." + names[i])
		m.Header.Set("Push-Collapse", "price")
		m.Data = fmt.Appendf(nil, "%.5f", prices[i])
		if err := nc.PublishMsg(m); err != nil {
			return // the connection was closed
		}
	}
}
