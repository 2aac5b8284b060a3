{{template "sh" .}}{{template "asroot" .}}
# remove NAME SHA256: the trust settings first, then the certificate itself.
remove() {
	security remove-trusted-cert -d "$1.cer" 2>/dev/null || true # was not trusted
	if security find-certificate -a -Z /Library/Keychains/System.keychain | tr 'A-F' 'a-f' | grep -q "$2"; then
		security delete-certificate -Z "$2" /Library/Keychains/System.keychain
	fi
}
{{range .Roots}}remove {{.Name}} {{.SHA256}}
{{end}}echo "removed from the system's keychain"
