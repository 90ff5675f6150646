//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type kidsCommand struct {
	Rounds int `default:"3" help:"Measurements; medians are shown."`
	Flood  int `default:"10000" help:"Handshakes with a key name that nobody has."`
	Rate   int `default:"1000" help:"Of those a second."`
	Good   int `default:"100" help:"Good handshakes a second beside them."`
}

// Run is the command: good handshakes alone, and beside a flood of key names
// that no key has, at a gateway that fetches its keys.
func (c *kidsCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	readings := map[string]map[string][]float64{}
	var ratios []float64
	for round := range c.Rounds {
		progress("== round %d of %d", round+1, c.Rounds)
		got, err := c.one(ctx, b)
		if err != nil {
			return err
		}
		for name, values := range got {
			if readings[name] == nil {
				readings[name] = map[string][]float64{}
			}
			for column, v := range values {
				readings[name][column] = append(readings[name][column], v)
			}
		}
		ratios = append(ratios, got["beside the flood"]["p99 ms"]/got["alone"]["p99 ms"])
	}
	table(fmt.Sprintf("good handshakes, %d a second, beside %d unknown key names, %d a second", c.Good, c.Flood, c.Rate), "handshakes",
		[]string{"alone", "beside the flood"}, []string{"share", "p50 ms", "p99 ms", "fetches"}, readings)
	fmt.Printf("p99 beside the flood: %s × that of alone\n", spread(ratios))
	return json.NewEncoder(os.Stdout).Encode(readings)
}

func (c *kidsCommand) one(ctx context.Context, b *binaries) (map[string]map[string]float64, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	var fetches atomic.Int64
	url, done, err := serveKey(&key.PublicKey, &fetches)
	if err != nil {
		return nil, err
	}
	defer done()
	s := newServers()
	defer s.stop()
	if err := s.startGateway(ctx, b, "GATEWAY_AUTH_HS256_SECRET=", "GATEWAY_AUTH_JWKS_URL="+url); err != nil {
		return nil, err
	}
	t := &s.target
	length := time.Duration(c.Flood/c.Rate) * time.Second
	good := es256(key)
	if _, err := t.handshakes(good, c.Good, time.Second); err != nil { // warm
		return nil, err
	}
	alone, err := t.handshakes(good, c.Good, length)
	if err != nil {
		return nil, err
	}
	before := fetches.Load()
	var flooding sync.WaitGroup
	var failed atomic.Pointer[error]
	flooding.Go(func() {
		if err := c.flood(t, good); err != nil {
			failed.Store(&err)
		}
	})
	beside, err := t.handshakes(good, c.Good, length)
	flooding.Wait()
	if why := failed.Load(); why != nil {
		return nil, *why
	}
	if err != nil {
		return nil, err
	}
	alone["fetches"] = 0
	beside["fetches"] = float64(fetches.Load() - before)
	return map[string]map[string]float64{"alone": alone, "beside the flood": beside}, nil
}

// serveKey publishes one key, without a name, and counts who asks.
func serveKey(key *ecdsa.PublicKey, fetches *atomic.Int64) (url string, done func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	point, err := key.ECDH()
	if err != nil {
		return "", nil, err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	xy := point.Bytes()[1:]
	set := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","x":%q,"y":%q}]}`, b64(xy[:32]), b64(xy[32:]))
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_, _ = fmt.Fprint(w, set)
	})}
	go func() { _ = server.Serve(ln) }()
	return "http://" + ln.Addr().String(), func() { _ = server.Close() }, nil
}

// handshakes makes good ones at a steady rate and looks how long each takes,
// from when it was due to the answer. "share" is how many were answered 101.
func (t *target) handshakes(key signer, rate int, length time.Duration) (map[string]float64, error) {
	var mu sync.Mutex
	var took []float64
	var failed error
	var all sync.WaitGroup
	n, err := metronome(rate, length, func(i int, due time.Time) error {
		token, err := key.mint(t.userName(i), time.Now())
		if err != nil {
			return err
		}
		all.Go(func() {
			status, err := ask(t, token)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && status != "101" {
				err = fmt.Errorf("a good handshake is answered %s", status)
			}
			if err != nil {
				failed = err
				return
			}
			took = append(took, float64(time.Since(due).Microseconds())/1000)
		})
		return nil
	})
	all.Wait()
	if err != nil {
		return nil, err
	}
	if failed != nil {
		progress("%d of %d handshakes failed, as in: %v", n-len(took), n, failed)
	}
	if len(took) == 0 {
		return nil, failed
	}
	slices.Sort(took)
	return map[string]float64{"p50 ms": took[len(took)/2], "p99 ms": took[len(took)*99/100], "share": float64(len(took)) / float64(n)}, nil
}

// flood makes handshakes whose tokens name keys that nobody has.
func (c *kidsCommand) flood(t *target, key signer) error {
	good, err := key.mint("eve", time.Now())
	if err != nil {
		return err
	}
	rest := good[strings.IndexByte(good, '.'):]
	places := make(chan struct{}, 64)
	var all sync.WaitGroup
	var wrong atomic.Int64
	_, err = metronome(c.Rate, time.Duration(c.Flood/c.Rate)*time.Second, func(i int, _ time.Time) error {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			head := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","kid":"k%d"}`, i))
			if status, err := ask(t, head+rest); err != nil || status != "401" {
				wrong.Add(1)
			}
		})
		return nil
	})
	all.Wait()
	if n := wrong.Load(); err == nil && n > 0 {
		err = fmt.Errorf("%d handshakes of the flood were not answered 401", n)
	}
	return err
}

// ask makes one handshake and returns the answer's status.
func ask(t *target, token string) (status string, err error) {
	conn, err := net.DialTimeout("tcp", t.Addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n", t.Addr, token); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return "", fmt.Errorf("answered %q", line)
	}
	return fields[1], nil
}
