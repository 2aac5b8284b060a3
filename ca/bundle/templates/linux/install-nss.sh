{{template "sh" .}}{{template "roots" .}}{{template "check" .}}
command -v certutil >/dev/null || die "no certutil here: it is in libnss3-tools (Debian), nss-tools (Fedora), mozilla-nss-tools (SUSE)"

# Chromium up to 145 looks into the first only. Later ones look into the second,
# unless there is the first:
# https://chromium.googlesource.com/chromium/src/+/main/docs/linux/cert_management.md
db=$HOME/.pki/nssdb
if ! [ -d "$db" ] && [ -d "$HOME/.local/share/pki/nssdb" ]; then
	db=$HOME/.local/share/pki/nssdb
fi
if ! [ -e "$db/cert9.db" ]; then
	mkdir -p "$db"
	chmod 0700 "$db"
	certutil -N -d "sql:$db" --empty-password
fi
for name in $roots; do
	certutil -A -d "sql:$db" -t C,, -n "$name" -i "$name.crt"
done
echo "installed in $db; restart the browser"
