#!/bin/bash
# init.sh FOLDER NODE: pid 1 of the cluster. Sets its mounts up, says so by FOLDER/ready, then only reaps.
set -euo pipefail
folder=$1
hostname "$2"
mount -t proc proc /proc
# sysfs and the cgroup hierarchies again, as seen from the own network and cgroup namespaces
root=/sys/fs/cgroup
mapfile -t hierarchies < <(awk -v root=$root '($3=="cgroup" || $3=="cgroup2") && index($2, root)==1 {print $2, $3, $4}' /proc/mounts)
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t tmpfs -o mode=755 tmpfs $root
for hierarchy in "${hierarchies[@]}"; do
  read -r target type options <<< "$hierarchy"
  controllers=$(tr , '\n' <<< "$options" | grep -vxE 'rw|ro|relatime|nosuid|nodev|noexec|clone_children|xattr|nsdelegate|memory_.*' | paste -sd,) || true
  mkdir -p "$target"
  if [ "$type" = cgroup2 ]; then mount -t cgroup2 cgroup2 "$target"; else mount -t cgroup -o "$controllers" cgroup "$target"; fi
done
# /run and /var/log of its own, and /var/lib with its writes kept in FOLDER: CNI's cache and the kubelet's
# folder of device plugins cannot be moved elsewhere
mkdir -p "$folder"/{run,var-log,var-lib,var-lib.work}
mount --bind "$folder/run" /run
mount --bind "$folder/var-log" /var/log
mount -t overlay -o "lowerdir=/var/lib,upperdir=$folder/var-lib,workdir=$folder/var-lib.work" overlay /var/lib
# what the kubelet would set for the whole machine: it sees the values that it wants instead of writing them
mkdir -p "$folder/sysctl"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  name=${setting%%=*}
  [ -e "/proc/sys/$name" ] || continue
  echo "${setting#*=}" > "$folder/sysctl/${name//\//.}"
  mount --bind "$folder/sysctl/${name//\//.}" "/proc/sys/$name"
done
mount --make-rshared /
touch "$folder/ready"
trap : TERM INT HUP
while :; do sleep 86400 & wait $! || true; done
