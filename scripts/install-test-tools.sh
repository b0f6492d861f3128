#!/usr/bin/env bash
# Installs the programs that tests and the lab use and the machine lacks, where that is allowed (Debian, as root).
# Elsewhere it says what is missing and leaves the decision to the tests: they skip loudly, or fail where required.
set -u
declare -A packages=([iptables]=iptables [ip]=iproute2 [dig]=dnsutils [tcpdump]=tcpdump [curl]=curl [openssl]=openssl [haproxy]=haproxy [nginx]=nginx [setpriv]=util-linux)
missing=()
for tool in "${!packages[@]}"; do
  command -v "$tool" >/dev/null 2>&1 || PATH="$PATH:/usr/sbin:/sbin" command -v "$tool" >/dev/null 2>&1 || missing+=("${packages[$tool]}")
done
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
