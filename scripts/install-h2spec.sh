#!/usr/bin/env bash
# Builds h2spec, which holds a server to the rules of HTTP/2, once, into ${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/h2spec/<version>/.
# With H2SPEC naming one's own program, or an h2spec on PATH, there is nothing to build.
# Ends with 1, and says why, when it cannot be had; the tests then skip loudly, or fail where it is required.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
home="${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/h2spec"
otherwise="name your own program by H2SPEC"
# shellcheck source=scripts/go-programs.sh
. "$here/scripts/go-programs.sh"
version=v2.2.1

# It names no versions of what it needs; these go together.
needed=(
  github.com/fatih/color@v1.19.0
  github.com/mattn/go-colorable@v0.1.14
  github.com/mattn/go-isatty@v0.0.20
  github.com/spf13/cobra@v1.10.2
  github.com/spf13/pflag@v1.0.9
  golang.org/x/net@v0.62.0
  golang.org/x/sys@v0.49.0
  golang.org/x/text@v0.43.0
)

build_h2spec() {
  local source
  source=$(mktemp -d) || return 1
  (
    cd "$source" || exit 1
    gently_go mod init build && gently_go get "github.com/summerwind/h2spec@$version+incompatible" "${needed[@]}" &&
      gently_go build -ldflags "-s -w" -o "$1/h2spec" github.com/summerwind/h2spec/cmd/h2spec && "$1/h2spec" --version >/dev/null
  )
  local outcome=$?
  rm -rf "$source"
  return $outcome
}

if [ -n "${H2SPEC:-}" ]; then
  [ -x "$H2SPEC" ] || fail "H2SPEC names $H2SPEC, which is no program"
elif ! command -v h2spec >/dev/null 2>&1 && [ ! -e "$home/$version" ]; then
  build "h2spec $version" "$home/$version" build_h2spec
fi
exit 0
