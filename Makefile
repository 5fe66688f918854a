# What a contributor and CI run. `make help` lists it.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help build demo test check fuzz bench clients setup clean
.NOTPARALLEL:

# A clone without tags, or without git, still builds.
VERSION := $(or $(shell git describe --tags --match 'v*' --dirty 2>/dev/null),dev)
COMMIT  := $(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)

# Linters are pinned here and not in go.mod: they are no part of the program.
TOOLS       ?= build/tools
STATICCHECK := $(TOOLS)/staticcheck-v0.8.2
GOLANGCI    := $(TOOLS)/golangci-lint-v2.15.0

FUZZTIME ?= 30s
BENCH    ?= .

# What a tracked file must not hold: the paths of one machine, and registries
# by name, which people replace by their own.
MACHINE := (^|[^A-Za-z0-9_./-])/(work|farm|tmp|root)/|(proxy|sum)[.]golang[.]org|registry[.]npmjs[.]org|deb[.]debian[.]org|pypi[.]org|pythonhosted[.]org

step := .ci/step

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

build: ## build/hostrole, static
	@$(step) 'building build/hostrole ($(VERSION), $(COMMIT))' \
	  'CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)" -o build/hostrole ./cmd/hostrole'

demo: build ## the whole thing on one screen; no root, no AWS, no configuration
	@./build/hostrole demo

test: build check setup ## everything that CI runs: check, then every test there is
	@$(step) 'go vet in agent/e2e/clients, a module of its own' 'cd agent/e2e/clients && go vet ./...'
	@FUZZTIME=10s .ci/fuzz
	@echo '  the unit tests as a user without rights'
	@.ci/unprivileged
	@$(step) 'building all tests with the race detector' 'go test -race -exec true ./...'
	@echo '  all tests as $(shell id -un), one package at a time: some of them measure'
	@go test -race -shuffle=on -p 1 -timeout 20m ./...

check: $(STATICCHECK) $(GOLANGCI) ## formatting, vet, linters, the house's rules; half a minute
	@$(step) 'gofmt' \
	  'bad=$$(find . -name "*.go" -not -path "./build/*" -not -path "*/node_modules/*" -print0 | xargs -0 gofmt -l); [ -z "$$bad" ] || { echo "$$bad"; exit 1; }'
	@$(step) 'go vet, Linux' 'GOOS=linux go vet ./...'
	@$(step) 'go vet, macOS' 'GOOS=darwin go vet ./...'
	@$(step) 'staticcheck' '$(STATICCHECK) ./...'
	@$(step) 'golangci-lint' '$(GOLANGCI) run ./...'
	@$(step) 'go.mod and go.sum are tidy, and the modules are what they say' 'go mod tidy -diff && go mod verify'
	@$(step) 'the house: imports, rules, sizes, comments' 'go test -run "^TestHouse" ./agent'
	@$(step) 'no path of one machine, no registry by name' \
	  'if git -c safe.directory="*" grep --no-index --exclude-standard -nIE "$(MACHINE)"; then exit 1; else [ $$? = 1 ]; fi'

fuzz: ## every fuzz target in turn, FUZZTIME=30s each
	@FUZZTIME=$(FUZZTIME) .ci/fuzz

bench: ## the parts, then the whole program under load; BENCH=pattern
	@agent/e2e/setup.sh --quick
	@grep -rl --include='*_test.go' '^func Benchmark' agent cmd imds rotation systemd | grep -v '^agent/e2e' | xargs -rn 1 dirname | sort -u | sed 's,^,./,' | \
	  xargs -r go test -run '^$$' -bench '$(BENCH)' -benchmem
	@go test -run '^$$' -bench '$(BENCH)' -timeout 30m ./agent/e2e

clients: ## the clients that take minutes to install, against the whole program
	@agent/e2e/setup.sh --clients
	@HOSTROLE_E2E=require HOSTROLE_E2E_CLIENTS=all go test -race -v -run '^TestField' -timeout 10m ./agent/e2e

setup:
	@agent/e2e/setup.sh

clean: ## remove build/
	@rm -rf build

$(STATICCHECK):
	@$(step) 'building staticcheck, once' \
	  'mkdir -p $(TOOLS) && GOBIN=$$(cd $(TOOLS) && pwd) go install honnef.co/go/tools/cmd/staticcheck@v0.8.2 && mv $(TOOLS)/staticcheck $@'

$(GOLANGCI):
	@$(step) 'building golangci-lint, once' \
	  'mkdir -p $(TOOLS) && GOBIN=$$(cd $(TOOLS) && pwd) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 && mv $(TOOLS)/golangci-lint $@'
