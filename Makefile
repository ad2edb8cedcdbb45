# Needs Go, git and make; nothing is installed outside this folder and Go's cache.
# "make" or "make help" lists the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE ?= csi-clone-provisioner:$(VERSION)
DEMO_IMAGE ?= csi-clone-provisioner-demo:dev
PROGRAM ?= bin/csi-clone-provisioner
# A docker without its engine is no use; asked only when an image is to be made.
IMAGE_TOOL ?= $(shell if docker info >/dev/null 2>&1; then echo docker; else command -v buildah || echo docker; fi)
IMAGE_FLAGS ?=
PLATFORMS ?= linux/amd64,linux/arm64

# grpcnotrace leaves out gRPC's trace pages, which nobody serves here: they use
# templates, and those keep the linker from dropping code that nobody calls (28 MB).
GO_TAGS = grpcnotrace
# -buildvcs=false: the program is the same whether or not git knows the folder.
GO_BUILD = go build -trimpath -buildvcs=false -tags $(GO_TAGS) -ldflags "-s -w -X main.version=$(VERSION)"
STAGE = hack/stage.sh
SUBMAKE = $(MAKE) --no-print-directory

# Figures of a run that is not of the usual size are for whoever made it.
BENCH_PAGES = $(if $(BENCH_CLAIMS),--svg ../../bin/bench/golden.svg,--svg ../../docs/performance-golden.svg --page ../../docs/performance.md)

# No C compiler is needed: what ships is made without one, and hack/gotest.sh does
# without the race detector where there is none (RACE=no: in any case). A go.work
# around this folder is none of ours.
export CGO_ENABLED = 0
export GOWORK = off

comma := ,

.DEFAULT_GOAL := help
.PHONY: help build programs control-plane demo demo-stop demo-image node node-shell node-stop e2e check test unit fuzz sanity integration chaos \
	bench bench-memory bench-topology lint verify vendor generate image images image-check sbom release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## compile the provisioner to bin/csi-clone-provisioner
	$(GO_BUILD) -o $(PROGRAM) ./cmd/csi-clone-provisioner

programs: build ## compile the provisioner, the demo, its CSI driver and the program that brings up a node
	$(GO_BUILD) -o bin/demo-csi-driver ./hack/demodriver/cmd/demo-csi-driver
	$(GO_BUILD) -o bin/demo ./hack/demo
	$(GO_BUILD) -o bin/node ./hack/node

control-plane: ## compile etcd, kube-apiserver and the rest for demo and tests (once; up to 10 minutes)
	hack/control-plane.sh

# A variable CONTEXT of the user's shell must not lead the demo into a cluster. Pods need root
# on Linux. Where the node cannot be compiled the demo does without it.
demo: ## clone a volume on a real control plane, as root with real pods (KEEP=1 leaves it running, PODS=no: no pods, SEED=n repeats the data then; CONTEXT=name: in that cluster of your kubeconfig)
ifeq ($(origin CONTEXT),command line)
	$(GO_BUILD) -o bin/demo ./hack/demo
	@bin/demo -context '$(CONTEXT)'
else
	@$(STAGE) programs $(SUBMAKE) programs
	@$(STAGE) control-plane $(SUBMAKE) control-plane
	@if [ "$$(id -u)" = 0 ] && [ "$$PODS" != no ]; then $(STAGE) node hack/node.sh || true; fi
	@bin/demo
endif

demo-stop: ## stop and remove what KEEP=1 make demo left running (CONTEXT=name: in that cluster)
ifeq ($(origin CONTEXT),command line)
	$(GO_BUILD) -o bin/demo ./hack/demo
	@bin/demo -context '$(CONTEXT)' -remove
else
	@found=; for stop in "$${TMPDIR:-/tmp}"/csi-clone-cluster-*/stop.sh "$${TMPDIR:-/tmp}"/csi-clone-node-*/stop.sh; do \
		if [ -e "$$stop" ]; then found=yes; "$$stop" || exit 1; fi; \
	done; \
	if [ -z "$$found" ]; then echo "nothing was left running"; fi
endif

demo-image: ## build the image for make demo CONTEXT=name (DEMO_IMAGE=name; its base, with a shell, is pulled)
	GOOS=linux $(GO_BUILD) -o bin/demo-image/ ./cmd/csi-clone-provisioner ./hack/demodriver/cmd/demo-csi-driver
	$(IMAGE_TOOL) build $(IMAGE_FLAGS) -f hack/demo/cluster/Dockerfile -t $(DEMO_IMAGE) bin/demo-image

node: ## bring up a cluster with a node that runs pods, the demo driver and the provisioner (root; once 5 minutes; BARE=yes: without the last two)
	@$(STAGE) programs $(SUBMAKE) programs
	@$(STAGE) control-plane $(SUBMAKE) control-plane
	@$(STAGE) node hack/node.sh
	@bin/node $(if $(BARE),bare,up)

node-shell: ## a shell in the node that is up, with kubectl and ctr (CMD='kubectl get pods -A' runs a command)
	@for enter in "$${TMPDIR:-/tmp}"/csi-clone-node-*/enter.sh; do \
		if [ -e "$$enter" ] && [ -n "$$CMD" ]; then exec "$$enter" sh -c "$$CMD"; fi; \
		if [ -e "$$enter" ]; then exec "$$enter"; fi; \
	done; \
	echo "no node is up; make node brings one up"; exit 1

node-stop: demo-stop ## stop the node and remove all of it

e2e: ## run Kubernetes' own storage tests on a node (root; FOCUS=pattern for some, PROCS=4 side by side)
	@$(STAGE) programs $(SUBMAKE) programs
	@$(STAGE) control-plane $(SUBMAKE) control-plane
	@$(STAGE) suite hack/node.sh --suite
	@$(STAGE) e2e bin/node e2e $(if $(FOCUS),-focus '$(FOCUS)') $(if $(PROCS),-procs $(PROCS))

check: ## for every commit: format, lint, conventions, unit tests of what changed (under 2 minutes)
	@hack/check.sh

# Chaos mostly waits, so it runs beside the integration tests; its output comes after theirs.
test: ## run all tests: unit, fuzz (2 s each), sanity, integration, chaos (60 s); times and results into bin/test
	@rm -rf bin/test; mkdir -p bin/test; \
	failed=; export FUZZTIME="$${FUZZTIME:-2s}" CHAOS_TIME="$${CHAOS_TIME:-60s}" STAGES="$(CURDIR)/bin/test/stages"; \
	for stage in build control-plane unit fuzz sanity; do \
		$(STAGE) $$stage $(SUBMAKE) $$stage || failed="$$failed $$stage"; \
	done; \
	$(STAGE) chaos $(SUBMAKE) -o build -o control-plane chaos >bin/test/chaos.log 2>&1 & chaos=$$!; \
	$(STAGE) integration $(SUBMAKE) -o build -o control-plane integration || failed="$$failed integration"; \
	wait $$chaos || failed="$$failed chaos"; \
	cat bin/test/chaos.log; \
	hack/test-report.sh; \
	if [ -n "$$failed" ]; then echo "=== FAILED:$$failed"; exit 1; fi; \
	echo "=== all tests passed"

unit: control-plane ## test each package by itself, and the conventions of this repository
	hack/gotest.sh --report unit -count=1 $$(hack/units.sh)

fuzz: ## run each fuzz test for a while (FUZZTIME=5s)
	hack/fuzz.sh

sanity: ## test the demo driver with the CSI conformance suite
	cd hack/sanity && ../gotest.sh --report sanity -count=1 ./...

integration: build control-plane ## test the provisioner against a real control plane (RACE=all: the race detector in it, too)
	@set -e; if [ "$(RACE)" = all ] && hack/gotest.sh --probe; then \
		(set -x; CGO_ENABLED=1 go build -race -tags $(GO_TAGS) -o bin/race/csi-clone-provisioner ./cmd/csi-clone-provisioner); \
		export CSI_CLONE_PROVISIONER_BINARY=$(CURDIR)/bin/race/csi-clone-provisioner; \
	fi; \
	hack/gotest.sh --report integration ./test/integration/... -count=1 -parallel 10 -timeout 60m

chaos: build control-plane ## let everything go wrong at once, then look what is lost (CHAOS_TIME=10m, SEED=n plays a script again)
	CHAOS_TIME="$${CHAOS_TIME:-10m}" hack/gotest.sh --report chaos ./test/chaos/... -count=1 -v -timeout 0

bench: build control-plane ## measure 500 and 2,000 claims at once, tables and plot into docs/ (BENCH_RUNS=3; BENCH_CLAIMS=50: into bin/bench)
	go build -trimpath -o bin/bench/floor ./hack/floor
	BENCH_OUT=$(CURDIR)/bin/bench/golden.json go test ./test/bench -run TestGoldenImage -count=1 -v -timeout 0
	cd hack/plot && go run . --report ../../bin/bench/golden.json $(BENCH_PAGES)

bench-memory: build control-plane ## measure memory beside 0, 5,000 and 20,000 PVs and claims of others, table into docs/ (BENCH_ROUNDS=3; BENCH_FOREIGN=0,500: only printed)
	BENCH_PAGE=$(if $(BENCH_FOREIGN),,$(CURDIR)/docs/performance.md) BENCH_FOREIGN=$(or $(BENCH_FOREIGN),0$(comma)5000$(comma)20000) \
		go test ./test/bench -run TestMemory -count=1 -v -timeout 0

bench-topology: build control-plane ## measure what claims cost beside 1,000 nodes in 3 places and in 1,000, table into docs/ (BENCH_NODES=100: only printed)
	BENCH_PAGE=$(if $(BENCH_NODES),,$(CURDIR)/docs/performance.md) BENCH_NODES=$(or $(BENCH_NODES),1000) \
		go test ./test/bench -run TestTopology -count=1 -v -timeout 0

lint: ## gofmt, go vet and golangci-lint
	hack/lint.sh

verify: ## check all that can be checked without running the product
	hack/verify.sh

vendor: ## bring go.mod, go.sum and vendor/ up to date
	go mod tidy
	go mod vendor

generate: ## write the generated files again
	hack/generate.sh

sbom: build ## list what is in the program, with licences (CycloneDX, bin/sbom.cdx.json)
	cd hack/inventory && go run . sbom ../.. ../../bin/csi-clone-provisioner $(VERSION) >../../bin/sbom.cdx.json

release: ## compile for each platform, with bills of materials and checksums (VERSION=v1.2.3, into bin/release)
	hack/release.sh $(VERSION)

image: ## build the container image (with docker, or IMAGE_TOOL=buildah)
	$(IMAGE_TOOL) build --build-arg VERSION=$(VERSION) $(IMAGE_FLAGS) -t $(IMAGE) .

# Older buildahs do not know by themselves on what they build.
images: ## build the image for all PLATFORMS under one name; docker pushes it (IMAGE=registry.example/name:tag), buildah keeps a manifest list
	$(if $(filter %buildah,$(IMAGE_TOOL)),\
		$(IMAGE_TOOL) build --build-arg VERSION=$(VERSION) --build-arg BUILDPLATFORM=linux/$(shell go env GOHOSTARCH) $(IMAGE_FLAGS) --platform $(PLATFORMS) --manifest $(IMAGE) .,\
		docker buildx build --build-arg VERSION=$(VERSION) $(IMAGE_FLAGS) --platform $(PLATFORMS) --push -t $(IMAGE) .)

image-check: build control-plane ## build the image with buildah, without network, and run it without root on a root file system that is read-only (needs root)
	hack/image-check.sh

clean: ## remove all that was compiled, the control plane too
	rm -rf bin
