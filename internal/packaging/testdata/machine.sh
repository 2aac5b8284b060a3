#!/bin/sh
# usage: machine.sh DIR SHARED NAME
# Boots a machine that is thrown away: systemd as process 1 over a copy-on-write
# view of this one's root, with its own processes, mounts, network (only lo),
# hostname and cgroup NAME. What it writes is in memory. SHARED is its /mnt; nothing
# else of this machine can be changed from there. It ends with this process.
set -e
PATH=$PATH:/usr/sbin:/sbin

if [ "$4" != inside ]; then
	mount -t tmpfs -o mode=755 tmpfs "$1"
	mkdir "$1/upper" "$1/work" "$1/root" "$1/cgroup"
	mount -t cgroup2 cgroup2 "$1/cgroup"
	mkdir "$1/cgroup/$3"
	echo $$ >"$1/cgroup/$3/cgroup.procs" # the root of the cgroups that systemd will see
	exec unshare --mount --cgroup --net --uts --ipc --pid --fork --kill-child sh "$0" "$@" inside
fi

mount --make-rprivate /
cd "$1"
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
mount --bind "$2" root/mnt
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys # but for the network, these are this machine's
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for dir in dev run tmp; do
	mount -t tmpfs -o mode=755 tmpfs $dir
done
chmod 1777 tmp
for node in null zero full random urandom tty; do
	touch dev/$node
	mount --bind /dev/$node dev/$node
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
rm -f var/lib/man-db/auto-update # the index of all pages takes long
ip link set lo up

# Of the units of this machine none is to start: what is left is empty targets.
find etc/systemd/system usr/lib/systemd/system usr/lib/systemd/system-generators -mindepth 1 -maxdepth 1 \
	\( -name '*.wants' -o -name '*.requires' -o -name '*.service.d' -o -name '*-generator' -o -path 'etc/*' \) -exec rm -rf {} +
cat >usr/lib/systemd/system/machine.target <<'UNIT'
[Unit]
Description=a machine that is thrown away
DefaultDependencies=no
Wants=systemd-journald.service
UNIT

mkdir -p tmp/old
pivot_root . tmp/old
cd /
umount --lazy /tmp/old
rmdir /tmp/old
exec env -i container=lab PATH="$PATH" /usr/lib/systemd/systemd --unit=machine.target --show-status=no --log-target=journal --log-level=notice
