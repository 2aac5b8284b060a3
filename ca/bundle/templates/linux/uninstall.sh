{{template "sh" .}}{{template "roots" .}}{{template "asroot" .}}
if [ -d /etc/pki/ca-trust/source/anchors ]; then # RHEL, Fedora
	dir=/etc/pki/ca-trust/source/anchors update='update-ca-trust extract'
elif [ -d /etc/pki/trust/anchors ]; then # SUSE
	dir=/etc/pki/trust/anchors update='update-ca-certificates --fresh'
elif command -v update-ca-certificates >/dev/null; then # Debian, Ubuntu, Alpine
	dir=/usr/local/share/ca-certificates update='update-ca-certificates --fresh'
elif command -v trust >/dev/null; then # Arch, others with p11-kit
	for name in $roots; do
		trust anchor --remove "$name.crt"
	done
	echo "removed with p11-kit"
	exit
else
	die "no update-ca-trust, update-ca-certificates or trust here"
fi
for name in $roots; do
	rm -f "$dir/$name.crt"
done
$update

# Debian's hook, which put the root into the list of its Java, is not told of what is
# gone.
java=/etc/ssl/certs/java/cacerts
if [ -e $java ] && command -v keytool >/dev/null; then
	for name in $roots; do
		if keytool -list -keystore $java -storepass changeit -alias "debian:$name.pem" >/dev/null 2>&1; then
			keytool -delete -keystore $java -storepass changeit -alias "debian:$name.pem"
		fi
	done
fi
echo "removed from $dir"
