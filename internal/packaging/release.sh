#!/usr/bin/env bash
# usage: release.sh OUT [ARCH...]
# Makes a release in the directory OUT, for amd64 and arm64 by default: static
# binaries, Debian packages, SBOMs, notices of licences, checksums. Needs git (or the
# variables below) and Go, no root. The same commit and the same version of Go
# give the same bytes, in whatever directory and by whomever it is run.
#
#   VERSION            default: from the last tag, or 0.0.0 and the commit
#   COMMIT             default: HEAD
#   SOURCE_DATE_EPOCH  default: the time of the commit
#   MAINTAINER         of the package: "Name <address>"
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/../.."

NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
SBOM=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

die() {
	echo "release: $*" >&2
	exit 1
}
[ $# -ge 1 ] || die "usage: release.sh OUT [ARCH...]"
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
archs=("$@")
[ $# -gt 0 ] || archs=(amd64 arm64)
[ -z "$(ls -A "$out")" ] || die "$out is not empty"

. internal/packaging/stamp.sh
MAINTAINER=${MAINTAINER:-framegate maintainers <framegate@localhost>}
export MAINTAINER

# Of what the user has set, by the environment or by go env -w, only what says where
# modules come from and are kept counts: the rest could change the bytes of a build.
for key in GOPROXY GOSUMDB GOPRIVATE GONOPROXY GONOSUMDB GOINSECURE GOAUTH GOVCS GOMODCACHE GOCACHE GOTOOLCHAIN; do
	value=$(go env "$key")
	export "$key=$value"
done
unset GO111MODULE GOARCH GOBIN GO_EXTLINK_ENABLED
export GOENV=off CGO_ENABLED=0 GOOS=linux GOFLAGS=-mod=readonly GOEXPERIMENT='' GOAMD64=v1 GOARM64=v8.0 GOWORK=off GOFIPS140=off TZ=UTC LC_ALL=C
umask 022
host() { env -u GOOS -u GOARCH "$@"; } # what runs here, whatever it builds for
LDFLAGS="-s -w -X main.releaseVersion=v$VERSION -X main.releaseCommit=$COMMIT"

STAGE=$(mktemp -d)
export STAGE
trap 'rm -rf "$STAGE"' EXIT

GOBIN=$STAGE/tools host go install -trimpath $NFPM
GOBIN=$STAGE/tools host go install -trimpath $SBOM
host go run -trimpath -tags manual -ldflags "$LDFLAGS" ./cmd/framegate "$STAGE"
gzip -9n "$STAGE"/man/*

# The source has no file that states a licence. What the binaries are linked from has,
# and asks for its notices to be handed on.
notices() {
	echo "framegate $VERSION"
	echo
	echo "The licence of framegate itself is for its owner to state. Nothing here grants one."
	echo
	echo "Copyright and licences of what the program is linked from:"
	for arch in "${archs[@]}"; do
		GOARCH=$arch go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/framegate
	done | sort -u >"$STAGE/modules"
	echo "Go $(go env GOVERSION) $(go env GOROOT)" | cat - "$STAGE/modules" | while read -r path version dir; do
		printf '\n%s\n%s %s\n' "$(printf '=%.0s' {1..78})" "$path" "$version"
		found=
		for file in "$dir"/{LICENSE,LICENCE,COPYING,NOTICE,PATENTS}*; do
			[ -f "$file" ] || continue
			found=1
			printf '\n'
			cat "$file"
		done
		[ -n "$found" ] || die "$path has no file that states a licence"
	done
}
notices >"$STAGE/NOTICES"
printf 'framegate (%s) unstable; urgency=medium\n\n  * Commit %s.\n\n -- %s  %s\n' \
	"$VERSION" "$COMMIT" "$MAINTAINER" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$STAGE/changelog.gz"

for arch in "${archs[@]}"; do
	binary=framegate-$VERSION-linux-$arch
	GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "$LDFLAGS" -o "$STAGE/$arch/framegate" ./cmd/framegate
	cp "$STAGE/$arch/framegate" "$out/$binary"
	GOARCH=$arch "$STAGE/tools/cyclonedx-gomod" bin -json -std -noserial -notimestamp -version "v$VERSION" \
		-output "$out/$binary.cdx.json" "$STAGE/$arch/framegate" 2>"$STAGE/said" || die "$(cat "$STAGE/said")"
	# It goes by its environment, not by what it reads.
	[ "$(grep -o 'goarch=[a-z0-9]*' "$out/$binary.cdx.json" | sort -u)" = "goarch=$arch" ] || die "the SBOM of $binary is that of another architecture"
	GOARCH=$arch "$STAGE/tools/nfpm" package --config internal/packaging/nfpm.yaml --packager deb --target "$out" >"$STAGE/said" || die "$(cat "$STAGE/said")"
done
cp "$STAGE/NOTICES" "$out/framegate-$VERSION-NOTICES"
(cd "$out" && sha256sum framegate* >SHA256SUMS)
ls -l "$out"
