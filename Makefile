# make run        a gateway for development: page, NATS, token, all in one
# make test       everything that CI runs, and the set-up it needs
# make test-short the same without a browser
# make bench      benchmarks, in the form that benchstat compares
# make fuzz       each fuzz target for FUZZTIME
# make soak       the race tests again and again

GO        ?= go
FUZZTIME  ?= 60s
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS    = -s -w -X main.version=$(VERSION)
LINT       = $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: run build test test-short check race portable cross lint clients browser manifests bench fuzz soak clean

run:
	$(GO) run ./cmd/gateway dev

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/gateway ./cmd/gateway
	$(GO) build -trimpath -o bin/loadgen ./cmd/loadgen

test: browser check lint cross race portable clients manifests

test-short: check cross portable
	@echo "test-short: browser tests, linters, client tests and manifest checks are left out; make test runs them"
	$(GO) test -short -race ./...

# check is what is quick to know.
check:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not gofmt-ed: $$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags portable ./...
	$(GO) vet -tags nodev ./cmd/gateway

race:
	$(GO) test -race ./...

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

clients:
	$(GO) build -o bin/gateway ./cmd/gateway
	cd test/clients && npm ci --no-audit --no-fund --silent && GATEWAY_BIN=../../bin/gateway npm test --silent

# browser installs one where it can: Debian, as root.
browser:
	@if ! command -v chromium >/dev/null 2>&1 && ! command -v google-chrome >/dev/null 2>&1; then \
	  if command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else \
	    echo "the browser tests need Chromium: apt-get install -y chromium (or: make test-short)"; exit 1; \
	  fi; \
	fi

manifests:
	$(GO) -C tools test -count=1 ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem -count 6 ./...

fuzz:
	@for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' . ); do \
	  for t in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9]*).*/\1/p' $$f); do \
	    echo "== $$(dirname $$f) $$t"; \
	    $(GO) test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) ./$$(dirname $$f) || exit 1; \
	  done; \
	done

soak:
	$(GO) test -race -count 20 -timeout 60m ./internal/... ./cmd/gateway

clean:
	rm -rf bin test/clients/node_modules
