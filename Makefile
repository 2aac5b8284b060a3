# make            builds bin/framegate
# make demo       shows the gateway at work in a network of its own on this machine
# make test       runs every test, with real iptables and real clients
# make bench      runs the benchmarks
# make soak       holds a gateway under load and faults; SOAK=30m is how long
# make release    makes what is published, in dist/: binaries, .deb, SBOM, checksums
# make reproduce  makes dist/ again elsewhere, and compares every byte
# make setup      installs what the tests need (demo and test do it themselves)
#
# demo, test and soak need root for network namespaces: they call sudo unless they are
# run as root. The tests are compiled as the calling user all the same.

.PHONY: build setup test demo bench soak release reproduce

TESTFLAGS ?=
SOAK ?= 30m
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo env PATH=$(PATH):/usr/sbin:/sbin GOFLAGS=-buildvcs=false)

build:
	CGO_ENABLED=0 go build -o bin/framegate ./cmd/framegate

setup:
	bash internal/lab/setup.sh test

test: setup
	$(if $(SUDO),sudo -v)
	go test -race $(if $(SUDO),-exec '$(SUDO)') $(TESTFLAGS) ./...

demo:
	bash internal/lab/setup.sh demo
	$(MAKE) --no-print-directory build
	$(SUDO) bin/framegate demo

bench:
	go test -run '^$$' -bench . -benchmem ./...

soak:
	bash internal/lab/setup.sh demo
	go test -count=1 -v -timeout 0 -run TestSoak $(if $(SUDO),-exec '$(SUDO)') ./internal/soak -args -soak $(SOAK)

release:
	rm -rf dist
	bash internal/packaging/release.sh dist

reproduce:
	bash internal/packaging/reproduce.sh dist
