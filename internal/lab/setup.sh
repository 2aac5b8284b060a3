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
	have tshark || missing+=(tshark) # reads the packets that audit export writes
	have rsyslogd || missing+=(rsyslog) # receives what audit/ship sends
	compgen -G '/usr/lib/*/rsyslog/lmnsd_gtls.so' >/dev/null || missing+=(rsyslog-gnutls)
	have systemd-analyze || missing+=(systemd) # reads the units of examples/systemd
	have nft || missing+=(nftables) # firewalls that framegate doctor finds
	have age || missing+=(age) # opens what the gateway has sealed, as docs/AUDIT-FORMAT.md says
	/usr/bin/python3 -c 'import cryptography' 2>/dev/null || missing+=(python3-cryptography)
	have zstd || missing+=(zstd) # examples/verify/verify.py, in place of a module
	have certutil || missing+=(libnss3-tools) # Chromium's trust
	have testssl || missing+=(testssl.sh) # a scan of what clients meet
	# What device bundles are tried with: clients, and readers of formats.
	have firefox-esr || missing+=(firefox-esr)
	have java || missing+=(default-jre-headless)
	have curl || missing+=(curl)
	have shasum || missing+=(perl)
	have plistutil || missing+=(libplist-utils)
	have shellcheck || missing+=(shellcheck)
	# What the package of internal/packaging is tried with.
	have lintian || missing+=(lintian)
	have man || missing+=(man-db)
	have col || missing+=(bsdextrautils)
	have file || missing+=(file)
	have setcap || missing+=(libcap2-bin)
	have fish || missing+=(fish)
	have zsh || missing+=(zsh)
	[ -e /usr/share/bash-completion/bash_completion ] || missing+=(bash-completion)
	/usr/bin/python3 -c 'import requests' 2>/dev/null || missing+=(python3-requests)
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

# promtool checks examples/observability. Of its package only that file is taken: the
# rest is a server, which would be started.
if [ "$1" = test ] && ! [ -x ../../bin/promtool ]; then
	have apt-get || die "no apt-get here for the package prometheus, of which promtool is needed in bin/"
	[ -n "$(apt-cache --quiet=0 show prometheus 2>/dev/null)" ] || root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
	mkdir -p ../../bin
	bin=$(cd ../../bin && pwd)
	from=$(mktemp -d)
	(cd "$from" && apt-get -qq -o APT::Sandbox::User=root download prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xf - ./usr/bin/promtool)
	install -m 755 "$from/usr/bin/promtool" "$bin/promtool"
	rm -r "$from"
fi

# A witness that cosigns checkpoints, for the tests of audit/ship.
if [ "$1" = test ] && ! [ -x ../../bin/litewitness ]; then
	CGO_ENABLED=0 GOBIN=$(cd ../.. && pwd)/bin go install filippo.io/torchwood/cmd/litewitness@v0.9.0
fi
