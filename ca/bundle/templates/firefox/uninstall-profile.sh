{{template "sh" .}}
command -v certutil >/dev/null || die "no certutil here: it is in libnss3-tools (Debian), nss-tools (Fedora), mozilla-nss-tools (SUSE)"

# fingerprint DB NICKNAME
fingerprint() {
	sum=$(certutil -L -d "sql:$1" -n "$2" -r 2>/dev/null | sha256sum)
	echo "${sum%% *}"
}

for db in "$HOME"/.mozilla/firefox/*/ "$HOME"/.config/mozilla/firefox/*/ "$HOME"/snap/firefox/common/.mozilla/firefox/*/; do
	[ -e "${db}cert9.db" ] || continue
	# A line is the nickname, which may have blanks, and the trust flags.
	certutil -L -d "sql:$db" | sed -n 's/ *[a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]* *$//p' | while IFS= read -r nickname; do
		case $(fingerprint "$db" "$nickname") in
		{{range $i, $r := .Roots}}{{if $i}} | {{end}}{{$r.SHA256}}{{end}})
			certutil -D -d "sql:$db" -n "$nickname"
			echo "removed from $db"
			;;
		esac
	done
done
