#!/bin/sh
# Boots systemd, this machine's own, as the first process of namespaces of its own; run where the network is that it is to have,
# and where mounts are private. What a disk would hold lies in FOLDER/{etc,var,local}; everything else is made here and gone with it.
#   boot.sh FOLDER GROUP
set -eu
folder=$1 group=$2

case ${3:-} in
"")
    # Who waits for the first process stays outside of the groups: those with others in them may hold none.
    exec unshare --pid --fork --kill-child -- /bin/sh "$0" "$folder" "$group" first
    ;;
first)
    # A group in every hierarchy, which is the root of all that is inside.
    while read -r _ place kind options _; do
        case $kind in cgroup | cgroup2) ;; *) continue ;; esac
        mkdir -p "$place/$group"
        case ",$options," in *,cpuset,*)
            cat "$place/cpuset.cpus" >"$place/$group/cpuset.cpus"
            cat "$place/cpuset.mems" >"$place/$group/cpuset.mems" ;;
        esac
        echo 0 >"$place/$group/cgroup.procs"
    done </proc/self/mounts
    exec unshare --cgroup -- /bin/sh "$0" "$folder" "$group" inside
    ;;
esac

root=$folder/root
mount -t tmpfs -o mode=755 root "$root"
hierarchies=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/self/mounts)
cd "$root"
mkdir usr etc var run tmp proc sys dev root old corten
for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done
mount --bind /usr usr
mount -o remount,bind,ro usr
mount --bind "$folder/local" usr/local
for name in etc var corten; do mount --bind "$folder/$name" "$name"; done
mount -t proc proc proc
mount -t sysfs sys sys
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp

# Names of groups are those of the namespace. Where this machine has v2 alone, it is the folder itself.
case $hierarchies in
"/sys/fs/cgroup cgroup2 "*) mount -t cgroup2 cgroup2 sys/fs/cgroup ;;
*)
    mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
    echo "$hierarchies" | while read -r place kind options; do
        mkdir -p ".$place"
        # What is not a word of the mount's own names a controller or the hierarchy.
        named=$(echo "$options" | tr , '\n' | grep -vxE 'rw|relatime|nosuid|nodev|noexec|xattr|clone_children|nsdelegate|memory_recursiveprot' | paste -sd, -)
        case $named in *name=*) named=none,$named ;; esac
        mount -t "$kind" ${named:+-o "$named"} "$kind" ".$place"
    done
    ;;
esac

mount -t tmpfs -o mode=755 dev dev
while read -r name major minor; do mknod -m 666 "dev/$name" c "$major" "$minor"; done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
loop-control 10 237
END
minor=0
while [ $minor -lt 64 ]; do
    mknod -m 660 dev/loop$minor b 7 $minor
    minor=$((minor + 1))
done
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 pts dev/pts
mount -t tmpfs shm dev/shm
ln -s pts/ptmx dev/ptmx

pivot_root . old
umount -l /old
rmdir /old
exec env -i container=corten-e2e PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin /lib/systemd/systemd
