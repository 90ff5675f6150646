# make run        a gateway for development: page, NATS, token, all in one
# make test       everything that CI runs, and the set-up it needs
# make test-short the same without a browser
# make bench      benchmarks, in the form that benchstat compares
# make fuzz       each fuzz target for FUZZTIME
# make conformance what the gateway makes of WebSocket frames, case by case, on both twins of poll
# make million  as many gateways as descriptors ask for, 1,000,000 sessions, what they cost and lose
# make soak       the race tests again and again, and what is delivered while servers are killed
# make reference  docs/configuration.md, from the program's table of keys
# make dist       archives of a release, in dist/

GO        ?= go
FUZZTIME  ?= 60s
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT    ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS    = -s -w -X main.version=$(VERSION)
LINT       = $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: run build test test-short check race portable cross lint specs clients browser manifests bench fuzz soak promtool dist reference clean

run:
	$(GO) run ./cmd/gateway dev

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gateway ./cmd/gateway
	$(GO) build -trimpath -o bin/loadgen ./cmd/loadgen

test: browser check lint cross race portable specs clients manifests faults

test-short: check cross portable
	@echo "test-short: browser tests, linters, specs, client tests, manifest checks and faults are left out; make test runs them"
	$(GO) test -short -race ./...

# check is what is quick to know.
check:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not gofmt-ed: $$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags portable ./...
	$(GO) vet -tags nodev ./cmd/gateway
	$(GO) vet -tags echotest ./internal/session ./cmd/gateway

# race tests one package at a time: several would make each other's clocks late.
race:
	$(GO) test -race -p 1 ./...
	$(GO) test -race -tags echotest -run Echo ./internal/session

# portable runs the sessions on the twin of poll that other systems use.
portable:
	$(GO) test -race -tags portable ./internal/...

cross:
	GOOS=darwin GOARCH=arm64 $(GO) build ./...
	GOOS=windows GOARCH=amd64 $(GO) build ./...
	GOOS=linux GOARCH=arm64 $(GO) build ./...
	CGO_ENABLED=0 $(GO) build -tags nodev -o /dev/null ./cmd/gateway

lint:
	$(LINT) run ./...
	cd test/faults && $(GO) tool -modfile=../../tools/go.mod golangci-lint run ./...

clients: browser
	$(GO) build -o bin/gateway ./cmd/gateway
	cd test/clients && npm ci --no-audit --no-fund --silent && GATEWAY_BIN=../../bin/gateway npm test --silent
	cd clients/typescript && npm ci --no-audit --no-fund --silent && GATEWAY_BIN=../../bin/gateway npm test --silent

# specs holds AsyncAPI and OpenAPI against their standards and the golden frames.
specs:
	cd api/validate && npm ci --no-audit --no-fund --silent && npm test --silent

# browser installs one where it can: Debian, as root.
browser:
	@if ! command -v chromium >/dev/null 2>&1 && ! command -v google-chrome >/dev/null 2>&1; then \
	  if command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else \
	    echo "the browser tests need Chromium: apt-get install -y chromium (or: make test-short)"; exit 1; \
	  fi; \
	fi

# promtool comes with Debian's prometheus, which need not run.
promtool:
	@if ! command -v promtool >/dev/null 2>&1; then \
	  if command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null; \
	  else \
	    echo "the alerts are tested with promtool: apt-get install -y --no-install-recommends prometheus"; exit 1; \
	  fi; \
	fi

manifests: promtool
	$(GO) -C tools test -count=1 ./...

# faults breaks what a gateway lives on. Most of its tests wait, so several run
# at a time.
.PHONY: faults
faults:
	$(GO) -C test/faults vet ./...
	$(GO) -C test/faults test -race -count 1 -parallel 6 ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem -count 6 ./...

fuzz:
	@for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' . ); do \
	  for t in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9]*).*/\1/p' $$f); do \
	    echo "== $$(dirname $$f) $$t"; \
	    $(GO) test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) ./$$(dirname $$f) || exit 1; \
	  done; \
	done

.PHONY: conformance
conformance:
	$(GO) test -count 1 -timeout 60m -v ./test/conformance -full
	$(GO) test -count 1 ./test/conformance -gateway.tags portable

.PHONY: million
million:
	$(GO) run ./cmd/loadgen million

soak:
	$(GO) test -race -count 20 -timeout 60m ./internal/... ./cmd/gateway
	$(GO) run ./test/delivery gateways --kills 100 --rate 2000 --clients 500
	$(GO) run ./test/delivery roll
	$(GO) run ./test/delivery nodes --kills 50
	$(GO) run ./test/delivery history
	$(GO) -C test/faults test -race -count 1 -parallel 6 -timeout 60m ./... -away 3m -cuts 200

reference:
	$(GO) test ./cmd/gateway -count=1 -run '^TestReference$$' -update-reference

# dist makes the same bytes of the same commit, wherever it is made.
dist:
	rm -rf dist && mkdir dist
	@set -e; for target in linux/amd64 linux/arm64 darwin/arm64; do \
	  os=$${target%/*}; arch=$${target#*/}; name=pushgate_$(VERSION)_$${os}_$$arch; mkdir dist/$$name; \
	  CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -buildvcs=false -tags nodev \
	    -ldflags '$(LDFLAGS) -X main.commit=$(COMMIT)' -o dist/$$name/gateway ./cmd/gateway; \
	  cp LICENSE README.md CHANGELOG.md docs/configuration.md dist/$$name/; \
	  tar -C dist --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=go=rX,u+rw -cf - $$name | gzip -n9 > dist/$$name.tar.gz; \
	  rm -r dist/$$name; echo dist/$$name.tar.gz; \
	done; cd dist && sha256sum *.tar.gz > SHA256SUMS

clean:
	rm -rf bin dist test/clients/node_modules clients/typescript/node_modules clients/typescript/dist api/validate/node_modules
