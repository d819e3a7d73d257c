# mittente. "make help" says what there is.

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
CACHE     := $(CURDIR)/.cache
LINT      := $(CACHE)/bin/golangci-lint
BENCHSTAT := $(CACHE)/bin/benchstat
TESTFLAGS ?=
FUZZTIME  ?= 30s
BENCH     ?= .
COUNT     ?= 10

.PHONY: help build demo test check lint fmt bench fuzz clean

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/mittente, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/mittente ./cmd/mittente

demo: build ## try it out: relay, first mail and inbox on loopback
	@bin/mittente demo

test: ## all tests; installs what they need on Debian and Ubuntu
	@sh test/install.sh
	@if command -v gcc >/dev/null 2>&1; then \
		CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 30m $(TESTFLAGS) ./...; \
	else \
		echo "NOTE: no gcc here, so the tests run without the race detector (-race)."; \
		CGO_ENABLED=0 $(GO) test -shuffle=on -timeout 30m $(TESTFLAGS) ./...; \
	fi

check: lint ## format, lint, vet, import map, documents, go.mod
	$(GO) vet ./...
	$(GO) test ./internal
	$(GO) test -run '^TestDocument' ./cmd/mittente
	$(GO) mod tidy -diff
	$(GO) mod verify

lint: $(LINT)
	$(LINT) run ./...

fmt: $(LINT) ## format the code
	$(LINT) fmt ./...

$(LINT): tools/go.mod tools/go.sum
	@echo "Building golangci-lint (some minutes, once)."
	cd tools && CGO_ENABLED=0 $(GO) build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BENCHSTAT): tools/go.mod tools/go.sum
	cd tools && CGO_ENABLED=0 $(GO) build -o $@ golang.org/x/perf/cmd/benchstat

bench: $(BENCHSTAT) ## the Go benchmarks, COUNT=10 times each, summed up by benchstat
	@mkdir -p $(CACHE)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./... | tee $(CACHE)/bench.txt
	$(BENCHSTAT) $(CACHE)/bench.txt

fuzz: ## every fuzz target for FUZZTIME=30s
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

clean: ## remove what was built
	rm -rf bin $(CACHE)
