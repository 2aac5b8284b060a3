{{template "sh" .}}{{template "roots" .}}
command -v certutil >/dev/null || die "no certutil here: it is in libnss3-tools (Debian), nss-tools (Fedora), mozilla-nss-tools (SUSE)"

for db in "$HOME/.pki/nssdb" "$HOME/.local/share/pki/nssdb"; do
	[ -e "$db/cert9.db" ] || continue
	for name in $roots; do
		if certutil -L -d "sql:$db" -n "$name" >/dev/null 2>&1; then
			certutil -D -d "sql:$db" -n "$name"
		fi
	done
	echo "removed from $db; restart the browser"
done
