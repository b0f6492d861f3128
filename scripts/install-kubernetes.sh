#!/usr/bin/env bash
# Builds the Kubernetes control plane that tests run (etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
# kubectl: one program) and CoreDNS, once, into ${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/kubernetes/<version>/.
# With KUBEBUILDER_ASSETS, or TEST_ASSET_ETCD and its like, naming one's own programs there is nothing to build.
# Ends with 1, and says why, when something cannot be had; the tests then skip loudly, or fail where it is required.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
home="${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/kubernetes"
programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl)
coredns_version=v1.12.4

otherwise="name your own programs by KUBEBUILDER_ASSETS"
# shellcheck source=scripts/go-programs.sh
. "$here/scripts/go-programs.sh"

# One's own program of this name, if there is one.
own() {
  local variable="TEST_ASSET_${1^^}"
  variable=${variable//-/_}
  if [ -n "${!variable:-}" ]; then
    [ -x "${!variable}" ] || fail "$variable names ${!variable}, which is no program"
    return 0
  fi
  [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$1" ]
}

build_machinery() {
  local package=k8s.io/component-base/version
  (cd "$here/checks/kubernetes/machinery" && gently_go build -o "$1/machinery" \
    -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor} -X $package.gitTreeState=clean" .) || return 1
  for program in "${programs[@]}"; do ln "$1/machinery" "$1/$program"; done
  rm "$1/machinery"
  "$1/kube-apiserver" --version >/dev/null
}

build_coredns() {
  GOBIN="$1" gently_go install -ldflags "-s -w" "github.com/coredns/coredns@$coredns_version"
}

missing=()
for program in "${programs[@]}"; do own "$program" || missing+=("$program"); done
if [ ${#missing[@]} -gt 0 ]; then
  version=$(sed -n 's|^\s*k8s.io/kubernetes \(v[0-9.]*\).*|\1|p' "$here/checks/kubernetes/machinery/go.mod" | head -1)
  minor=$(echo "$version" | cut -d. -f2)
  [ -e "$home/$version" ] || build "Kubernetes $version" "$home/$version" build_machinery || exit 1
fi
if ! own coredns; then
  [ -e "$home/coredns-$coredns_version" ] || build "CoreDNS $coredns_version" "$home/coredns-$coredns_version" build_coredns || exit 1
fi
exit 0
