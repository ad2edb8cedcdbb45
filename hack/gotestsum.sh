#!/usr/bin/env bash
# Prints the path of gotestsum, which is compiled from hack/gotestsum (go.mod pins it), once
# for each go.sum and version of Go, into bin/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

key=$({ cat hack/gotestsum/go.sum; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-16)
program=$PWD/bin/gotestsum-$key
if [ ! -x "$program" ]; then
  mkdir -p bin
  rm -f bin/gotestsum-*
  (cd hack/gotestsum && CGO_ENABLED=0 GOWORK=off GOFLAGS="${GOFLAGS:-} -mod=readonly" \
    go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$program.$$" gotest.tools/gotestsum) >&2
  mv "$program.$$" "$program"
fi
echo "$program"
