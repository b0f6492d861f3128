#!/usr/bin/env bash
# Starts a container from an image's unpacked files, in namespaces of its own, without a runtime of containers:
#
#   start.sh ROOT CONFIG readonly|writable USER|image CAPABILITY,…|none [ARGUMENT…] [-- COMMAND…]
#
# /tmp can be written everywhere, as in our pods, and begins with a copy of what ISTHMUS_IMAGE_FILES names, if it does.
set -euo pipefail
root=$1 config=$2 disk=$3
shift 3
mapfile -t words < <(node "$(dirname "$0")/command.mjs" "$config" "$@")
files=${ISTHMUS_IMAGE_FILES:-}
export root disk files
exec unshare --mount --pid --net --uts --ipc --fork bash -c '
  set -e
  ip link set lo up
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount -t tmpfs -o mode=755 none "$root/dev"
  for device in null zero random urandom; do touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"; done
  ln -s /proc/self/fd "$root/dev/fd"
  for stream in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${stream#*:}" "$root/dev/${stream%:*}"; done
  mount -t tmpfs -o mode=1777 none "$root/tmp"
  [ -z "$files" ] || cp $files "$root/tmp"
  [ "$disk" = writable ] || mount -o remount,bind,ro "$root"
  exec chroot "$root" "$@"' - "${words[@]}" </dev/null
