#!/usr/bin/env bash
# Builds image/Dockerfile and starts what comes out, as a cluster would: npm run test:image
#
# Needs Debian, root, buildah and debootstrap (it installs what is missing); no registry and no Docker. The base stands in for node:*-bookworm-slim: a minimal
# Debian with this machine's Node where those images have theirs, made once and kept in ${XDG_CACHE_HOME:-~/.cache}/isthmus/image.
# What the Dockerfile says of a network is held too: iptables come from Debian, and after that nothing is fetched (no network is there).
# Skips, and says so, where something is missing; fails there instead when ISTHMUS_REQUIRE has "image" or "all".
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/image"

passed=0 failed=0 skipped=0
# missing WHAT: counts as skipped, or as failed where it is required.
missing() {
  echo "SKIPPED: $*" >&2
  case ",${ISTHMUS_REQUIRE:-}," in *,all,* | *,image,*) failed=$((failed + 1)) ;; *) skipped=$((skipped + 1)) ;; esac
}
# The end: what came of it, in a line, and in ISTHMUS_TALLY for who sums several suites.
tell() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [ -z "${ISTHMUS_TALLY:-}" ] || echo "$passed $failed $skipped" >>"$ISTHMUS_TALLY"
  [ "$failed" = 0 ] || exit 1
  exit 0
}
skip() {
  missing "the image is not built: $*"
  tell
}
[ "$(id -u)" = 0 ] || skip "not root"
command -v apt-get >/dev/null || skip "this is no Debian"
declare -A packages=([buildah]=buildah [debootstrap]=debootstrap [ip]=iproute2 [unshare]=util-linux)
wanted=()
for tool in "${!packages[@]}"; do command -v "$tool" >/dev/null || wanted+=("${packages[$tool]}"); done
if [ ${#wanted[@]} -gt 0 ]; then
  echo "installing ${wanted[*]}"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${wanted[@]}"; } >/dev/null 2>&1 ||
    skip "${wanted[*]} could not be installed"
fi
[ -e "$here/dist/cli/main.js" ] || { echo "there is no dist/: npm run build makes it" >&2 && exit 1; }

work=$(mktemp -d "${ISTHMUS_IMAGE_WORK:-/var/tmp}/isthmus-image.XXXXXX")
export TMPDIR=$work
# Layers that share files where the kernel can, copies of everything where it cannot.
driver=vfs
mkdir "$work"/{lower,upper,overlay,merged}
if mount -t overlay none -o "lowerdir=$work/lower,upperdir=$work/upper,workdir=$work/overlay" "$work/merged" 2>/dev/null; then
  umount "$work/merged"
  driver=overlay
fi
engine() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver "$driver" "$@"; }
end() {
  engine rm --all >/dev/null 2>&1 || true
  umount "$work/storage/overlay" 2>/dev/null || true
  # A folder that something is still mounted in is left, rather than emptied through the mount.
  rm -rf --one-file-system "$work"
}
trap end EXIT
step() { printf '== %s (at %s s)\n' "$*" "$SECONDS"; }

# check NAME COMMAND…: passes when the command does; its output is shown when it does not.
check() {
  local name=$1
  shift
  if "$@" >"$work/said" 2>&1; then
    passed=$((passed + 1))
    echo "  ok  $name"
  else
    failed=$((failed + 1))
    echo "  FAILED  $name"
    sed 's/^/    /' "$work/said"
  fi
}
says() {
  local expected=$1
  shift
  "$@" >"$work/output" 2>&1 || { cat "$work/output" && return 1; }
  grep -qE -- "$expected" "$work/output" || { echo "no \"$expected\" in:" && cat "$work/output" && return 1; }
}
not() { ! "$@"; }

make_base() {
  local mirror target=$1
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | awk '$2 == "bookworm" { print $1; exit }')
  [ -n "$mirror" ] || skip "apt knows no mirror of Debian bookworm"
  mkdir -p "$cache"
  debootstrap --variant=minbase --include=libstdc++6,libatomic1 bookworm "$work/debian" "$mirror" >"$work/log" 2>&1 ||
    { tail -5 "$work/log" && skip "debootstrap could not make a Debian"; }
  rm -rf "$work"/debian/var/cache/apt/archives/*.deb "$work"/debian/var/lib/apt/lists/*
  tar -C "$work/debian" -cf "$target.$$" . && mv "$target.$$" "$target"
  rm -rf "$work/debian"
}

# build TARGET TAG: offline, from the base that has iptables. The network is not only forbidden: there is none.
build() {
  unshare --net buildah --root "$work/storage" --runroot "$work/run" --storage-driver "$driver" bud --isolation chroot --pull-never \
    --disable-compression -f "$here/image/Dockerfile" --target "$1" --build-arg BASE=localhost/base:iptables --build-arg PACKAGES= \
    -t "$2" "$work/context" >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
}

start() { bash "$here/checks/image/start.sh" "$@"; }
lives() { ISTHMUS_IMAGE_FILES="$here/checks/image/life.mjs" as_pod -- node /tmp/life.mjs "$1"; }

step "the base"
base="$cache/bookworm-$(dpkg --print-architecture).tar"
[ -e "$base" ] || make_base "$base"
container=$(engine from scratch)
engine add --quiet "$container" "$base" / >/dev/null
mkdir -p "$work/node/bin" "$work/node/lib/node_modules/npm"
cp "$(node -p process.execPath)" "$work/node/bin/node"
ln -s ../lib/node_modules/npm "$work/node/bin/npm"
engine add --quiet "$container" "$work/node" /usr/local >/dev/null
engine config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd node "$container"
engine commit --quiet --disable-compression --rm "$container" base:node >/dev/null
node "$here/scripts/image-context.mjs" --out "$work/context" >"$work/parts"

step "its iptables, from Debian, as the Dockerfile installs them"
engine bud --isolation chroot --pull-never --disable-compression -f "$here/image/Dockerfile" --target base \
  --build-arg BASE=localhost/base:node -t base:iptables "$work/context" >"$work/log" 2>&1 || { tail -20 "$work/log" && exit 1; }

# As pods run it: not root, nothing to write to, no rights. On the image that `try` has unpacked last.
as_pod() { start "$root" "$config" readonly image none "$@"; }

# try NAME TAG: what holds of both images.
try() {
  config=$work/$1.json
  root=$(engine mount "$(engine from --pull-never "$2")")
  engine inspect --type image "$2" |
    node -e 'console.log(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).OCIv1.config))' >"$config"
  cat "$work/parts" && du -sh --one-file-system "$root" | awk '{ print "  all of it: " $1 }'
  check "$1: its user is 1337, its entrypoint isthmus" says '"User":"1337:1337".*"Entrypoint":\["/usr/local/bin/isthmus"\]' cat "$config"
  check "$1: isthmus --version" says "^$(node -p "require('$here/package.json').version")$" as_pod --version
  check "$1: without arguments, its help" says "^Usage: isthmus" as_pod
  for command in controlplane proxy agent wait; do
    check "$1: isthmus $command --help" says "^Usage: isthmus $command" as_pod "$command" --help
  done
  check "$1: a control plane and a proxy live, and end when they are told" says "^controlplane and proxy have lived$" lives proxy
  check "$1: they run as 1337, without rights" says "^1337 1337 0000000000000000$" \
    as_pod -- node -p '`${process.getuid()} ${process.getgid()} ${/CapBnd:\s*(\S+)/.exec(fs.readFileSync("/proc/self/status"))[1]}`'
  check "$1: nothing can be written where anybody may write, but /tmp" says "^EROFS$" \
    as_pod -- node -e 'try { fs.writeFileSync("/var/tmp/written", "") } catch (e) { console.log(e.code) }'
  check "$1: isthmus capture --dry-run" says "-A .*REDIRECT" as_pod capture --dry-run
  check "$1: isthmus capture, as the init container" says "rules written by ip6?tables" start "$root" "$config" writable 0:0 net_admin,net_raw capture
  check "$1: has a home, though its user has no name" says "^/$" as_pod -- node -p "os.homedir()"
  check "$1: koffi is there for this platform" as_pod -- node -e 'require("/opt/isthmus/node_modules/koffi").load(null)'
  check "$1: not even on a writable disk can it change itself" says EACCES \
    start "$root" "$config" writable image none -- node -e 'try { fs.appendFileSync("/opt/isthmus/dist/cli/main.js", "") } catch (e) { console.log(e.code) }'
  check "$1: all of it is root's, and only root writes" says "^none$" \
    bash -c 'found=$(find "$1/opt/isthmus" ! -type l \( -perm /022 -o ! -uid 0 -o ! -gid 0 -o ! -perm -444 \)); echo "${found:-none}"' - "$root"
  check "$1: no package manager of Node's" not ls "$root/usr/local/bin/npm" "$root/usr/local/lib/node_modules"
  check "$1: nothing that only development needs" says "^none$" node "$here/checks/image/development.mjs" "$here" "$root/opt/isthmus"
}

step "target isthmus, without a network"
build isthmus image:isthmus
try isthmus image:isthmus
check "isthmus: no Envoy" not as_pod -- envoy --version

step "target envoy, without a network"
envoy=$(command -v envoy || ls "${XDG_CACHE_HOME:-$HOME/.cache}"/isthmus/envoy/*/envoy 2>/dev/null | tail -1 || true)
if [ -z "${ISTHMUS_ENVOY:-$envoy}" ]; then
  missing "target envoy: there is no Envoy here; isthmus envoy install"
else
  node "$here/scripts/image-context.mjs" --out "$work/context" --envoy "${ISTHMUS_ENVOY:-$envoy}" >"$work/parts"
  build envoy image:envoy
  try envoy image:envoy
  check "envoy: a control plane and an agent with its Envoy live, and end when they are told" says "^controlplane and agent have lived$" lives agent
  check "envoy: envoy --version" says "version: .*/[0-9]+\.[0-9]+\.[0-9]+" as_pod -- envoy --version
fi

step "done"
tell
