{{template "sh" .}}{{template "roots" .}}{{template "check" .}}{{template "asroot" .}}
if [ -d /etc/pki/ca-trust/source/anchors ]; then # RHEL, Fedora
	dir=/etc/pki/ca-trust/source/anchors update='update-ca-trust extract'
elif [ -d /etc/pki/trust/anchors ]; then # SUSE
	dir=/etc/pki/trust/anchors update=update-ca-certificates
elif command -v update-ca-certificates >/dev/null; then # Debian, Ubuntu, Alpine
	dir=/usr/local/share/ca-certificates update=update-ca-certificates
elif command -v trust >/dev/null; then # Arch, others with p11-kit
	for name in $roots; do
		trust anchor --store "$name.crt"
	done
	echo "installed with p11-kit"
	exit
else
	die "no update-ca-trust, update-ca-certificates or trust here: install the package ca-certificates"
fi
mkdir -p "$dir"
for name in $roots; do
	install -m 0644 "$name.crt" "$dir/$name.crt"
done
$update
echo "installed in $dir"
