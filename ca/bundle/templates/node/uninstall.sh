{{template "sh" .}}{{template "asroot" .}}
rm -f /etc/profile.d/framegate-node.sh /usr/local/share/framegate/framegate-roots.pem
rmdir /usr/local/share/framegate 2>/dev/null || true # others may keep theirs there
echo "removed; log in anew"
