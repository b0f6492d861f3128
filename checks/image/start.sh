#!/usr/bin/env bash
# Starts a container from an image's unpacked files, in namespaces of its own, without a runtime of containers:
#
#   start.sh ROOT CONFIG readonly|writable USER|image CAPABILITY,…|none [ARGUMENT…] [-- COMMAND…]
set -euo pipefail
root=$1 config=$2 disk=$3
shift 3
mapfile -t words < <(node "$(dirname "$0")/command.mjs" "$config" "$@")
export root disk
exec unshare --mount --pid --net --uts --ipc --fork bash -c '
  set -e
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t tmpfs -o mode=755 none "$root/dev"
  for device in null zero random urandom; do touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"; done
  [ "$disk" = writable ] || mount -o remount,bind,ro "$root"
  exec chroot "$root" "$@"' - "${words[@]}" </dev/null
