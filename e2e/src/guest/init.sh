#!/bin/sh
# The guest's first process. Control groups are v2's alone, as most servers have them today; nothing of v1 is mounted.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root

if [ "$1" != settled ]; then
    # No namespace of mounts can leave a kernel's first root, so the same files are mounted once more, as a root like others.
    mkdir /new
    mount --bind / /new
    cd /new
    mount --move . /
    exec chroot . /init settled
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devices /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As systemd does, and as runc is started with the same of both.
ulimit -Hn 524288
ulimit -n 524288
hostname guest
cd /root

/corten/corten-e2e guest-inside
echo "guest: over with $?"
poweroff -f
