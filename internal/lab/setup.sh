#!/usr/bin/env bash
# usage: setup.sh demo|test
# Installs what the demo or the tests need and this machine lacks. Asks for root
# only if there is something to install.
set -euo pipefail

case ${1:-} in
demo | test) ;;
*)
	sed -n '2,4s/^# //p' "$0" >&2
	exit 2
	;;
esac
cd "$(dirname "$0")"
PATH=$PATH:/usr/sbin:/sbin # a user's PATH on Debian lacks them

die() {
	echo "setup: $*" >&2
	exit 1
}
have() { command -v "$1" >/dev/null; }
root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		have sudo || die "root is needed for: $* (no sudo here: run it as root)"
		sudo "$@"
	fi
}

missing=()
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
have ip || missing+=(iproute2)
{ have iptables-restore && have ip6tables-restore; } || missing+=(iptables)
if [ "$1" = test ]; then
	have gcc || missing+=(gcc libc6-dev) # go test -race
	have node || missing+=(nodejs)
	have npm || missing+=(npm)
	have chromium || missing+=(chromium)
	have python3 || missing+=(python3)
	have zstd || missing+=(zstd) # examples/verify/verify.py, in place of a module
	have certutil || missing+=(libnss3-tools) # Chromium's trust
	/usr/bin/python3 -c 'import websockets' 2>/dev/null || missing+=(python3-websockets)
fi
if [ ${#missing[@]} -gt 0 ]; then
	have apt-get || die "not installed and no apt-get here to do it: ${missing[*]}"
	echo "setup: installing ${missing[*]}"
	root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
	root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}"
fi

if [ "$1" = test ] && ! [ clients/node/node_modules/.package-lock.json -nt clients/node/package-lock.json ]; then
	(cd clients/node && npm ci --no-audit --no-fund --ignore-scripts)
fi
