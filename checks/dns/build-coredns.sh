#!/usr/bin/env bash
# Builds real CoreDNS programs for the tests of checks/dns, one on each side of where the forms change, into
# ~/.cache/isthmus/coredns/coredns-vX.Y.Z. They are linked with the plugins that need no cluster's and no cloud's library,
# which takes a minute each. Versions as arguments, or none for all; what is there already is left.
set -euo pipefail

home="${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/coredns"
versions=("$@")
if [ ${#versions[@]} -eq 0 ]; then versions=(v1.4.0 v1.5.0 v1.12.4); fi
command -v go > /dev/null || { echo "build-coredns: Go is not installed" >&2; exit 1; }

plugins_of() {
  echo bind cache errors file forward health hosts loadbalance log loop metrics reload template whoami
  case "$1" in
    v1.4.0) echo proxy ;;
    v1.5.0) echo ready ;;
    *) echo ready any acl minimal ;;
  esac
}

# 1.4.0 and 1.5.0 name no versions of what they need, or such as Go no longer builds: these go together.
old_requirements='
require (
	github.com/mholt/caddy v0.11.5
	github.com/miekg/dns v1.1.6
	github.com/golang/protobuf v1.3.5
	google.golang.org/grpc v1.26.0
	github.com/prometheus/client_golang v0.9.2
	github.com/apache/thrift v0.12.0
	github.com/openzipkin/zipkin-go-opentracing v0.3.4
	github.com/DataDog/dd-trace-go v0.6.1
	github.com/opentracing/opentracing-go v1.0.2
	golang.org/x/sys v0.20.0
	golang.org/x/net v0.20.0
	golang.org/x/text v0.14.0
	github.com/dnstap/golang-dnstap v0.4.0
	github.com/farsightsec/golang-framestream v0.3.0
	github.com/flynn/go-shlex v0.0.0-20150515145356-3f9db97f8568
	github.com/google/uuid v1.6.0
	github.com/grpc-ecosystem/grpc-opentracing v0.0.0-20180507213350-8e809c8a8645
)'

for version in "${versions[@]}"; do
  program="$home/coredns-$version"
  [ -x "$program" ] && continue
  echo "build-coredns: building CoreDNS $version into $program"
  folder="$(mktemp -d)"
  {
    echo 'package main'
    echo 'import ('
    echo '	"github.com/coredns/coredns/coremain"'
    for plugin in $(plugins_of "$version"); do echo "	_ \"github.com/coredns/coredns/plugin/$plugin\""; done
    echo ')'
    echo 'func main() { coremain.Run() }'
  } > "$folder/main.go"
  case "$version" in
    v1.[0-5].*) printf 'module coredns\ngo 1.20\nrequire github.com/coredns/coredns %s\n%s\n' "$version" "$old_requirements" > "$folder/go.mod" ;;
    *)
      # Its own go.mod, so that what it stands on is what it was released with.
      (cd "$folder" && go mod download "github.com/coredns/coredns@$version")
      source="$(go env GOMODCACHE)/github.com/coredns/coredns@$version"
      sed 's/^module .*/module coredns/' "$source/go.mod" > "$folder/go.mod"
      cat "$source/go.sum" > "$folder/go.sum"
      echo "require github.com/coredns/coredns $version" >> "$folder/go.mod"
      ;;
  esac
  mkdir -p "$home"
  (cd "$folder" && CGO_ENABLED=0 nice -n 15 go build -mod=mod -p 1 -trimpath -ldflags '-s -w' -o coredns .)
  mv "$folder/coredns" "$program"
  rm -rf "$folder"
done
