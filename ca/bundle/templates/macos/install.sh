{{template "sh" .}}{{template "roots" .}}
# check FILE SHA256: the fingerprint of a certificate is the hash of its DER.
check() {
	sum=$(shasum -a 256 <"$1") || die "$1 cannot be read"
	[ "${sum%% *}" = "$2" ] || die "$1 is not the certificate with fingerprint $2"
}
{{range .Roots}}check {{.Name}}.cer {{.SHA256}}
{{end}}{{template "asroot" .}}
for name in $roots; do
	security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain "$name.cer"
done
echo "installed in the system's keychain"
