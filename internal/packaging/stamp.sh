# Says which release this is: sourced in the root of the source, it sets and exports
# VERSION, COMMIT and SOURCE_DATE_EPOCH where they are not set.
# shellcheck shell=bash

in_git() { git rev-parse --is-inside-work-tree >/dev/null 2>&1; }
if [ -z "${COMMIT:-}" ]; then
	in_git || die "no git checkout: set VERSION, COMMIT and SOURCE_DATE_EPOCH"
	COMMIT=$(git rev-parse HEAD)
	[ -z "$(git status --porcelain)" ] || COMMIT+=+modified
fi
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
	in_git || die "no git checkout: set SOURCE_DATE_EPOCH"
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
fi
if [ -z "${VERSION:-}" ]; then
	in_git || die "no git checkout: set VERSION"
	# As Debian sorts them: 1.2.0 < 1.2.0+3.g0123456 < 1.3.0
	if described=$(git describe --tags --match 'v[0-9]*' --abbrev=12 2>/dev/null); then
		VERSION=$(sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/' <<<"$described")
	else
		VERSION=0.0.0+$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).g${COMMIT:0:12}
	fi
	case $COMMIT in *+modified) VERSION+=.modified ;; esac
fi
[[ $VERSION =~ ^[0-9][0-9A-Za-z.+~]*$ ]] || die "VERSION $VERSION: expected a Debian version without a hyphen, such as 1.2.0"
export VERSION COMMIT SOURCE_DATE_EPOCH
