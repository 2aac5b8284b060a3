{{template "sh" .}}{{template "roots" .}}
[ $# -gt 0 ] || die "usage: sudo sh {{.Sh}} REGISTRY..."
{{template "asroot" .}}
for registry; do
	for name in $roots; do
		rm -f "/etc/docker/certs.d/$registry/$name.crt"
	done
	rmdir "/etc/docker/certs.d/$registry" 2>/dev/null || true # it may hold others
	echo "removed for $registry"
done
