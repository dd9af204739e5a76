#!/bin/bash
# launch.sh INIT FOLDER NODE CGROUP...: joins the cgroups, then becomes unshare, whose child INIT is pid 1 of the
# cluster. When that one ends the kernel ends all that is within, and mounts and network go with it.
set -euo pipefail
# Starts only after the owner has written down whom to end; without an owner this reads the end of file.
read -r _
init=$1 folder=$2 node=$3
shift 3
for cgroup in "$@"; do echo $$ > "$cgroup/cgroup.procs"; done
exec unshare --net --mount --propagation private --pid --fork --kill-child --cgroup --uts /bin/bash "$init" "$folder" "$node"
