# What a contributor and CI run. `make help` lists it.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help build demo test check fuzz bench soak screenshots clients qemu deb rpm apk image dist setup clean
.NOTPARALLEL:

# A clone without tags, or without git, still builds.
VERSION := $(or $(shell git describe --tags --match 'v*' --dirty 2>/dev/null),dev)
COMMIT  := $(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)
# The time in all that is packaged, so that it is the same wherever it is made.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
ARCHS ?= amd64 arm64
packaging = VERSION=$(VERSION) COMMIT=$(COMMIT) SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) NFPM=$(NFPM) CYCLONEDX=$(CYCLONEDX) packaging/build

# Linters are pinned here and not in go.mod: they are no part of the program.
TOOLS       ?= build/tools
STATICCHECK := $(TOOLS)/staticcheck-v0.8.2
GOLANGCI    := $(TOOLS)/golangci-lint-v2.15.0
NFPM        := $(TOOLS)/nfpm-v2.45.2
CYCLONEDX   := $(TOOLS)/cyclonedx-gomod-v1.10.0

FUZZTIME ?= 30s
BENCH    ?= .

# What a tracked file must not hold: the paths of one machine, and registries
# by name, which people replace by their own.
MACHINE := (^|[^A-Za-z0-9_./-])/(work|farm|tmp|root)/|(proxy|sum)[.]golang[.]org|registry[.]npmjs[.]org|deb[.]debian[.]org|pypi[.]org|pythonhosted[.]org

step := .ci/step

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

build: ## build/hostrole, static
	@$(step) 'building build/hostrole ($(VERSION), $(COMMIT))' \
	  'CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$(VERSION) -X main.commit=$(COMMIT)" -o build/hostrole ./cmd/hostrole'

demo: build ## the whole thing on one screen; no root, no AWS, no configuration
	@./build/hostrole demo

test: build check setup $(NFPM) $(CYCLONEDX) ## everything that CI runs: check, then every test there is
	@$(step) 'go vet in agent/e2e/clients, a module of its own' 'cd agent/e2e/clients && go vet ./...'
	@$(step) 'go vet and tests of the packages, a module of its own' 'cd packaging && go vet ./... && go mod tidy -diff && go mod verify && go test ./...'
	@FUZZTIME= .ci/fuzz
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
	@go test -run '^$$' -bench '$(BENCH)' -timeout 30m -p 1 ./agent/e2e ./agent/e2e/runtimes

soak: ## the long versions of the tests that have one; hours
	@HOSTROLE_SOAK=1 HOSTROLE_E2E=require go test -count=1 -p 1 -timeout 24h ./...

deb: build $(NFPM) ## build/dist/*.deb, for ARCHS="amd64 arm64"
	@$(packaging) deb $(ARCHS)

rpm: build $(NFPM) ## build/dist/*.rpm
	@$(packaging) rpm $(ARCHS)

apk: build $(NFPM) ## build/dist/*.apk
	@$(packaging) apk $(ARCHS)

image: ## build/dist/*-image.tar, an OCI image
	@$(packaging) image $(ARCHS)

dist: build $(NFPM) $(CYCLONEDX) ## all of these, tarballs, SBOMs and SHA256SUMS
	@rm -rf build/dist
	@$(packaging) deb,rpm,apk,tar,image,sums $(ARCHS)

screenshots: ## the pictures of packaging/docs, drawn anew by the tests that look at them
	@agent/e2e/setup.sh
	@go test -count 1 -run '^TestBrowser$$' ./cmd/hostrole/page -update
	@go test -count 1 -run '^TestPictures$$' ./cmd/hostrole -update

clients: ## the clients that take minutes to install, against the whole program
	@agent/e2e/setup.sh --clients
	@HOSTROLE_E2E=require HOSTROLE_E2E_CLIENTS=all go test -race -v -run '^TestField' -timeout 25m ./agent/e2e

upstreams: ## the upstreams that take minutes to build, behind the whole program
	@agent/e2e/setup.sh --upstreams
	@HOSTROLE_E2E=require HOSTROLE_E2E_UPSTREAMS=all go test -race -v -timeout 10m ./agent/e2e/upstreams

qemu: build $(NFPM) ## the package on Debian's own kernel, in a virtual machine; the first time two minutes, then one
	@agent/e2e/installed/setup.sh
	@HOSTROLE_E2E=require HOSTROLE_E2E_QEMU=1 go test -v -count=1 -run '^TestVirtualMachine$$' -timeout 10m ./agent/e2e/installed

setup:
	@agent/e2e/setup.sh
	@agent/e2e/hostnet/setup.sh

clean: ## remove build/
	@rm -rf build

$(STATICCHECK):
	@$(step) 'building staticcheck, once' \
	  'mkdir -p $(TOOLS) && GOBIN=$$(cd $(TOOLS) && pwd) go install honnef.co/go/tools/cmd/staticcheck@v0.8.2 && mv $(TOOLS)/staticcheck $@'

$(GOLANGCI):
	@$(step) 'building golangci-lint, once' \
	  'mkdir -p $(TOOLS) && GOBIN=$$(cd $(TOOLS) && pwd) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 && mv $(TOOLS)/golangci-lint $@'

$(NFPM):
	@$(step) 'building nfpm, once' \
	  'mkdir -p $(TOOLS) && GOBIN=$$(cd $(TOOLS) && pwd) go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2 && mv $(TOOLS)/nfpm $@'

$(CYCLONEDX):
	@$(step) 'building cyclonedx-gomod, once' \
	  'mkdir -p $(TOOLS) && GOBIN=$$(cd $(TOOLS) && pwd) go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 && mv $(TOOLS)/cyclonedx-gomod $@'
