{{template "sh" .}}{{template "roots" .}}{{template "check" .}}{{template "asroot" .}}
dir=/etc/firefox/policies
# Without the names of the certificates, one bundle's policies are another's.
policies() { sed '/framegate-root-/d' "$1"; }
if [ -e $dir/policies.json ] && [ "$(policies $dir/policies.json)" != "$(policies policies.json)" ]; then
	die "$dir/policies.json is there and has policies of its own: add Certificates of ./policies.json to it, and copy framegate-root-*.crt beside it"
fi
mkdir -p $dir
for name in $roots; do
	install -m 0644 "$name.crt" "$dir/$name.crt"
done
install -m 0644 policies.json $dir/policies.json
echo "installed in $dir; restart Firefox"
