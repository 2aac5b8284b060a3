{{template "sh" .}}{{template "sha256"}}
sum=$(sha256 <framegate-roots.pem) || die "framegate-roots.pem cannot be read"
[ "${sum%% *}" = {{.AllSHA256}} ] || die "framegate-roots.pem is not the file of this bundle"
{{template "asroot" .}}
dir=/usr/local/share/framegate
mkdir -p $dir
install -m 0644 framegate-roots.pem $dir/framegate-roots.pem
if [ -d /etc/profile.d ]; then
	echo "export NODE_EXTRA_CA_CERTS=$dir/framegate-roots.pem" >/etc/profile.d/framegate-node.sh
	chmod 0644 /etc/profile.d/framegate-node.sh
	echo "installed; log in anew"
else
	echo "copied; set NODE_EXTRA_CA_CERTS=$dir/framegate-roots.pem where your shell's settings are"
fi
