//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

type tokensCommand struct {
	Rounds   int `default:"3" help:"Measurements of each line; medians are shown."`
	Sessions int `default:"10000" help:"Handshakes of a storm, each with a token of its own."`
}

// cacheState is what the gateway knows of a storm's tokens before it.
type cacheState struct {
	name     string
	settings []string
	met      bool // the storm before it had the same tokens
}

var cacheStates = []cacheState{
	{", no cache", []string{"GATEWAY_AUTH_CACHE_BYTES=0"}, true},
	{", cold cache", nil, false},
	{", warm cache", nil, true},
}

// notCached is for tokens that the gateway does not keep.
var notCached = []cacheState{{"", nil, true}}

// algorithm is how a storm's tokens are signed, and how the gateway is told.
type algorithm struct {
	signer
	settings []string
	states   []cacheState
}

// algorithms makes the keys; the public one is written into dir.
func algorithms(dir string) ([]algorithm, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "token.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return []algorithm{
		{hs256(benchSecret), nil, notCached},
		{es256(key), []string{"GATEWAY_AUTH_HS256_SECRET=", "GATEWAY_AUTH_PUBLIC_KEY_FILES=" + file}, cacheStates},
	}, nil
}

// Run is the command. As compare does, it starts NATS and gateway freshly for
// each reading and takes the readings in turn.
func (c *tokensCommand) Run(ctx context.Context) error {
	b, err := build(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	algs, err := algorithms(b.dir)
	if err != nil {
		return err
	}
	readings := map[string]map[string][]float64{}
	var names []string
	for round := range c.Rounds {
		for _, alg := range algs {
			for _, state := range alg.states {
				name := alg.alg + state.name
				progress("== %s, round %d of %d", name, round+1, c.Rounds)
				got, err := c.one(ctx, b, &alg, &state)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if readings[name] == nil {
					readings[name] = map[string][]float64{}
					names = append(names, name)
				}
				for column, v := range got {
					readings[name][column] = append(readings[name][column], v)
				}
			}
		}
	}
	table(fmt.Sprintf("storm of %d handshakes", c.Sessions), "tokens", names, []string{"CPU µs", "a CPU-second", "hits", "misses"}, readings)
	for _, alg := range algs {
		if len(alg.states) == 1 {
			continue
		}
		off, warm := readings[alg.alg+", no cache"]["a CPU-second"], readings[alg.alg+", warm cache"]["a CPU-second"]
		ratios := make([]float64, c.Rounds)
		for i := range ratios {
			ratios[i] = warm[i] / off[i]
		}
		fmt.Printf("%s: %s × as many handshakes a CPU-second with a warm cache as with none\n", alg.alg, spread(ratios))
	}
	return json.NewEncoder(os.Stdout).Encode(readings)
}

// one measures the second storm of a fresh gateway: the first, which has the
// same tokens or those of other users, is for the caches, all of them.
func (c *tokensCommand) one(ctx context.Context, b *binaries, alg *algorithm, state *cacheState) (map[string]float64, error) {
	s := newServers()
	defer s.stop()
	if err := s.startGateway(ctx, b, append(alg.settings[:len(alg.settings):len(alg.settings)], state.settings...)...); err != nil {
		return nil, err
	}
	t := &s.target
	tokens, err := alg.mintAll(t, c.Sessions)
	if err != nil {
		return nil, err
	}
	others := *t
	if others.tokens = tokens; !state.met {
		others.Users = "w"
		if others.tokens, err = alg.mintAll(&others, c.Sessions); err != nil {
			return nil, err
		}
	}
	before := t.files()
	if _, err := (&stormCommand{target: others, Sessions: c.Sessions}).measure(ctx); err != nil {
		return nil, err
	}
	t.awaitFiles(before)

	t.tokens = tokens
	hits, misses, err := t.lookups()
	if err != nil {
		return nil, err
	}
	res, err := (&stormCommand{target: *t, Sessions: c.Sessions}).measure(ctx)
	if err != nil {
		return nil, err
	}
	hitsAfter, missesAfter, err := t.lookups()
	if err != nil {
		return nil, err
	}
	return map[string]float64{"CPU µs": res.CPU, "a CPU-second": res.PerCPU, "hits": hitsAfter - hits, "misses": missesAfter - misses}, nil
}

// lookups reads how often the gateway has found a token in its cache, and how
// often not.
func (t *target) lookups() (hits, misses float64, err error) {
	if hits, err = t.counter(`pushgate_token_cache_total{result="hit"}`); err != nil {
		return 0, 0, err
	}
	misses, err = t.counter(`pushgate_token_cache_total{result="miss"}`)
	return hits, misses, err
}
