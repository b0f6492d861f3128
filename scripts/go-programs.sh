# What the scripts have in common that build Go programs for the tests; sourced by them, not run.
# Expects `home`, the folder that they build into, and `otherwise`: what somebody without Go can do.

say() { echo "$(basename "$0" .sh): $*" >&2; }
fail() {
  say "$*"
  exit 1
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
  command -v go >/dev/null 2>&1 || fail "there is no Go to build $name with (1.24 or later); install it, or $otherwise"
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
