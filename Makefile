# Everything that a person does with this repository. `make help` lists it.
#
# A target installs what it needs: Debian packages by apt, gVisor and runc built
# from their Go modules into a cache outside the checkout.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
GOFLAGS_RELEASE := -trimpath -ldflags "-s -w -buildid="
FUZZTIME ?= 30s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build tools ## the main job: two hospitals, one enclave, nobody sees the other's data
	$(GO) run ./examples/genomics/demo --adyton bin/adyton

.PHONY: test
test: tools ## all tests
	CGO_ENABLED=1 $(GO) test -p 1 -timeout 10m ./...

.PHONY: race
race: tools ## all tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

.PHONY: build
build: ## bin/adyton and bin/adyton-init, static and reproducible
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_RELEASE) -o bin/ ./cmd/...

.PHONY: install
install: build ## install both binaries into /usr/local/bin and the manual pages
	install -m 0755 bin/adyton bin/adyton-init /usr/local/bin/
	bin/adyton man /usr/local/share/man/man1

.PHONY: deps
deps: ## the Debian packages that building and testing needs
	./tools/debian-packages

.PHONY: tools
tools: deps ## gVisor and runc, built from their Go modules into the cache
	$(GO) run ./tools/install

.PHONY: bench
bench: tools ## measurement, quote verification and sealing beside their peers
	$(GO) run ./bench/run

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	./bench/fuzz $(FUZZTIME)

.PHONY: lint
lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -s -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -s -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

.PHONY: docs
docs: ## write the generated pages of docs/reference
	$(GO) test ./refusal -run ReferencePage -update
	$(GO) test ./docs/reference -run ClaimsTables -update

.PHONY: clean
clean: ## remove what was built in the checkout (the cache stays)
	rm -rf bin
