{{template "sh" .}}{{template "roots" .}}{{template "asroot" .}}
dir=/etc/firefox/policies
if cmp -s policies.json $dir/policies.json; then
	rm -f $dir/policies.json
elif grep -qs framegate-root- $dir/policies.json; then
	echo "{{.Sh}}: $dir/policies.json is not the one of this bundle: take the certificates out of it" >&2
fi
for name in $roots; do
	rm -f "$dir/$name.crt"
done
echo "removed from $dir; profiles keep their copy until sh uninstall-profile.sh is run"
