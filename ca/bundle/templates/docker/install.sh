{{template "sh" .}}{{template "roots" .}}{{template "check" .}}
[ $# -gt 0 ] || die "usage: sudo sh {{.Sh}} REGISTRY..."
{{template "asroot" .}}
for registry; do
	mkdir -p "/etc/docker/certs.d/$registry"
	for name in $roots; do
		install -m 0644 "$name.crt" "/etc/docker/certs.d/$registry/$name.crt"
	done
	echo "installed for $registry"
done
