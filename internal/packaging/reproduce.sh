#!/usr/bin/env bash
# usage: reproduce.sh DIR [ARCH...]
# Makes the release in DIR again, from a copy of the source in another place, by
# a user with other habits, and says whether every byte is the same. With
# COLD=1 nothing that was compiled before is used. Exits with 1 if there is a
# difference. Variables are those of release.sh.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/../.."

die() {
	echo "reproduce: $*" >&2
	exit 1
}
[ -f "${1:-}/SHA256SUMS" ] || die "usage: reproduce.sh DIR [ARCH...], DIR being what release.sh has made"
made=$(cd "$1" && pwd)
shift
. internal/packaging/stamp.sh

(cd "$made" && sha256sum --quiet --check SHA256SUMS) || die "$made is not what its checksums say"

scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
umask 077
copy="$scratch/a place of another name/source"
mkdir -p "$copy"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
	while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
	xargs -0 cp --parents --no-preserve=mode,timestamps --target-directory "$copy"
[ -z "${COLD:-}" ] || export GOCACHE=$scratch/cache
# What go env -w has set for this user, with flags and an architecture of another.
cat "$(go env GOENV)" >"$scratch/env" 2>/dev/null || true
printf '%s\n' GOFLAGS=-tags=another GOARCH=riscv64 GOEXPERIMENT=arenas GO111MODULE=off CGO_ENABLED=1 >>"$scratch/env"
GOENV=$scratch/env TZ=Pacific/Chatham LC_ALL=C.UTF-8 bash "$copy/internal/packaging/release.sh" "$scratch/again" "$@" >/dev/null

diff -r "$made" "$scratch/again" || die "the two differ"
echo "reproduce: the same, byte for byte: $(cd "$made" && echo framegate*)"
