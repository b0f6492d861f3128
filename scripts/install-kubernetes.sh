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

say() { echo "install-kubernetes: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

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

# Go, behind whatever else the machine has to do.
gently_go() {
  local before=()
  [ "$(nice)" -ge 10 ] || before=(nice -n 10)
  CGO_ENABLED=0 GOFLAGS="-trimpath ${GOFLAGS:-}" "${before[@]}" go "$@"
}

# build NAME TARGET COMMAND…: the command fills a folder, its last argument, which then becomes TARGET at once.
build() {
  local name=$1 target=$2 work started=$SECONDS
  shift 2
  command -v go >/dev/null 2>&1 || fail "there is no Go to build $name with (1.24 or later); install it, or name your own programs by KUBEBUILDER_ASSETS"
  mkdir -p "$home"
  exec 9>"$home/.lock"
  flock -n 9 || say "somebody else builds here; waiting for them"
  flock 9
  if [ -e "$target" ]; then return; fi
  say "building $name into $target, which takes several minutes the first time"
  work=$(mktemp -d "$home/.build.XXXXXX")
  if ! "$@" "$work" 2>"$work.log"; then
    tail -20 "$work.log" >&2
    say "could not build $name after $((SECONDS - started)) s; the modules come from the Go module proxy (GOPROXY=$(go env GOPROXY))"
    rm -rf "$work" "$work.log"
    exit 1
  fi
  chmod 755 "$work"
  mv "$work" "$target"
  rm -f "$work.log"
  say "built $name in $((SECONDS - started)) s"
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
