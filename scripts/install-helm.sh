#!/usr/bin/env bash
# Builds the Helm that holds our chart against its own rules, once, into ${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/helm/<version>/.
# With HELM naming one's own program, or a helm on PATH, there is nothing to build.
# Ends with 1, and says why, when it cannot be had; the tests then skip loudly, or fail where it is required.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
home="${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/helm"
otherwise="name your own program by HELM"
# shellcheck source=scripts/go-programs.sh
. "$here/scripts/go-programs.sh"
version=v3.18.6

build_helm() {
  GOBIN="$1" gently_go install -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$version" && "$1/helm" version --short >/dev/null
}

if [ -n "${HELM:-}" ]; then
  [ -x "$HELM" ] || fail "HELM names $HELM, which is no program"
elif ! command -v helm >/dev/null 2>&1 && [ ! -e "$home/$version" ]; then
  build "Helm $version" "$home/$version" build_helm
fi
exit 0
