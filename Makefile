GO       ?= go
TOOL     := $(GO) tool -modfile=tools.mod
# The race detector needs a C compiler; without one the tests still run, and say so.
RACE     ?= $(if $(shell command -v gcc || command -v cc || command -v clang),-race,)

.DEFAULT_GOAL := help
.PHONY: help build generate lint test bench

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/splashdam
	$(GO) build -trimpath -o bin/splashdam ./cmd/splashdam

generate: ## write the Go code of the public contract (proto/) anew
	$(TOOL) buf generate

lint: ## gofmt, vet, staticcheck, govulncheck, buf lint, buf breaking
	./.ci/lint

test: ## run every test, with the race detector where a C compiler is found
	@[ -n "$(RACE)" ] || echo "no C compiler found: running without the race detector"
	$(GO) test $(RACE) -timeout 10m ./...

bench: ## measure the broker against the limit of this machine
	$(GO) run ./test/bench
