# Everything that is done with this tree more than once. `make help` lists the targets.

GO ?= go
STATICCHECK = $(GO) tool -modfile=tools/go.mod staticcheck
# Prints a dot for each test while they run, and what failed at the end.
GOTESTSUM = $(GO) tool -modfile=tools/go.mod gotestsum --format dots --format-hide-empty-pkg --
FUZZTIME ?= 1m
VERSION ?= $(shell git describe --tags --always 2>/dev/null || echo dev)

.PHONY: help build install test test-busy test-root deps vet lint fuzz bench budget cross docs clean

help: ## say what each target does
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 10

OUT ?= gophd

build: ## build ./gophd, one static binary without cgo (OUT=... chooses another place)
	CGO_ENABLED=0 $(GO) build -trimpath \
		-ldflags "-s -w -X main.version=$(VERSION)" -o $(OUT) ./cmd/gophd

install: build ## put it in /usr/local/bin (PREFIX=... chooses another place)
	install -D -m 0755 gophd $(DESTDIR)$(or $(PREFIX),/usr/local)/bin/gophd

test: deps vet lint ## run all tests with the race detector, after vet and staticcheck; installs what they need
	@echo "testing, a dot is a test that passed:"
	$(GOTESTSUM) -race -p 4 -timeout 60m ./...

test-busy: deps ## the same tests beside two endless loops and one that forks without end
	@./tools/busy $(GOTESTSUM) -race -p 4 -count 1 -timeout 80m ./...

test-root: deps ## the tests that need root; says what this machine cannot run
	@./tools/test-root $(GOTESTSUM) -race -tags root -run 'Root' ./...

deps: ## install what the tests need and is missing: memcached, tmux, ps, python3, and a C compiler for the race detector
	@./tools/deps

vet: ## gofmt and go vet
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	$(GO) vet ./... && $(GO) vet -tags root,budget,soak ./...

lint: ## staticcheck, at the version that tools/go.mod pins
	$(STATICCHECK) ./... && $(STATICCHECK) -tags root,budget,soak ./...

fuzz: ## run every fuzzer for FUZZTIME (1m) each
	@./tools/fuzz $(FUZZTIME)

bench: ## measure what docs/PERFORMANCE.md states; takes some minutes and wants a quiet machine
	@./bench/run

budget: ## print idle memory, wake-ups and start time, and fail past the limits
	@./bench/budget

cross: ## vet the tree for the other systems that gophd builds on
	GOOS=darwin $(GO) vet ./... && GOOS=freebsd $(GO) vet ./... && GOOS=linux GOARCH=arm64 $(GO) vet ./...

docs: ## write the generated docs anew
	$(GO) test ./internal/config -run Reference -update
	$(GO) test ./internal/event -run Reference -update

clean: ## remove what build has made
	rm -f gophd
