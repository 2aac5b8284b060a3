#!/usr/bin/env bash
# usage: make.sh [-nth N]
# Makes ../bettertls.json.gz anew: test cases of Netflix BetterTLS (Apache-2.0,
# https://github.com/Netflix/bettertls), whose generator is run from the Go module.
# All of the path building suite, and every Nth of the name constraints (default 40;
# 1: all 9491, some 13 MB). The certificates end a year later; the tests set the clock.
set -euo pipefail
cd "$(dirname "$0")"
version=v0.0.0-20250909192348-e1e99e353074
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
module=$(cd "$dir" && go mod download -json "github.com/Netflix/bettertls@$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
cp -r "$module/." "$dir"
chmod -R u+w "$dir"
mkdir "$dir/test-suites/cmd/vectors"
cp main.go "$dir/test-suites/cmd/vectors"
(cd "$dir" && go run ./test-suites/cmd/vectors "$@") | gzip -9n >"$dir/out.gz"
mv "$dir/out.gz" ../bettertls.json.gz
