GO       ?= go
TOOL     := $(GO) tool -modfile=tools.mod
# The race detector needs a C compiler; without one the tests still run, and say so.
RACE     ?= $(if $(shell command -v gcc || command -v cc || command -v clang),-race,)

# Packages that speak to MinIO and to table servers where these are installed.
STORES   := ./objectlog/s3 ./metadata/dynamo ./localstack/...
# Packages that start whole brokers, and want the machine to themselves: heavy work beside them makes recoveries late.
BROKERS  := ./test/e2e ./test/faults ./test/nemesis

.DEFAULT_GOAL := help
.PHONY: help build generate lint test components components-all stack bench

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/splashdam
	$(GO) build -trimpath -o bin/splashdam ./cmd/splashdam

generate: ## write the Go code of the public contract (proto/) anew
	$(TOOL) buf generate

lint: ## gofmt, vet, staticcheck, govulncheck, buf lint, buf breaking
	./.ci/lint

test: ## run every test, on the real stores too where their components are installed
	@[ -n "$(RACE)" ] || echo "no C compiler found: running without the race detector"
	@./localstack/components.sh status
	$(GO) test $(RACE) -timeout 10m $$($(GO) list ./... | grep -v -x -F "$$($(GO) list $(STORES) $(BROKERS))")
	$(GO) test $(RACE) -timeout 10m $(STORES)
	$(GO) test -timeout 10m -p 1 $(BROKERS)

components: ## install MinIO, two table servers, HAProxy and promtool into .cache: about five minutes the first time
	./localstack/components.sh

components-all: ## install dynoxide as well, a fast table server: some minutes more
	./localstack/components.sh all

stack: build components ## run MinIO, a table server and an agent, with data in ./splashdam-stack; AGENTS=3: three behind HAProxy
	$(GO) build -trimpath -o bin/stack ./localstack/stack
	@./bin/stack $(if $(AGENTS),-agents $(AGENTS)) $(STACK)

bench: ## measure the broker against the limit of this machine
	$(GO) run ./test/bench
