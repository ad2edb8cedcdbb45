#!/usr/bin/env bash
# Runs go test with the race detector where that works. It needs a C compiler,
# which nobody is asked to have: without one the tests run all the same, and one
# line says what they do without.
#
#   hack/gotest.sh ARGUMENT...   go test -race ARGUMENT..., in the caller's folder
#   hack/gotest.sh --probe       exit code 0 if the race detector works; else 1, and why
#   hack/gotest.sh --report NAME ARGUMENT...
#                                the same by gotestsum (hack/gotestsum), which writes the
#                                results to bin/test/NAME.json and NAME.xml (JUnit)
#
# RACE=no goes without it in any case.
#
# A race fails the test that it happened in, and the others run: to halt at once
# (GORACE=halt_on_error=1) would leave a cluster behind. At its end a program waits
# a moment for races of its last breath; the usual second of each is too much here.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# probe compiles and runs a program with the race detector. That it worked is
# remembered for this compiler and this Go; that it did not, is not.
probe() {
  local cc key tmp
  if [ "${RACE:-}" = no ]; then echo "RACE=no"; return 1; fi
  read -ra cc <<<"$(CGO_ENABLED=1 go env CC)"
  if ! command -v "${cc[0]}" >/dev/null; then echo "there is no C compiler (${cc[0]})"; return 1; fi
  key=$({ go env GOVERSION GOOS GOARCH CC; command -v "${cc[0]}"; "${cc[@]}" --version; } 2>&1 | sha256sum | cut -c1-16)
  if [ -e "$root/bin/race-works-$key" ]; then return; fi
  tmp=$(mktemp -d)
  echo 'package main; func main() { c := make(chan bool); go close(c); <-c }' >"$tmp/probe.go"
  if ! (cd "$tmp" && CGO_ENABLED=1 GOFLAGS='' GOWORK=off go build -race -o probe probe.go && ./probe) >"$tmp/log" 2>&1; then
    echo "${cc[0]} does not compile for it: $(grep -v '^#' "$tmp/log" | head -1)"
    rm -rf "$tmp"
    return 1
  fi
  rm -rf "$tmp"
  mkdir -p "$root/bin"
  touch "$root/bin/race-works-$key"
}

race=() cgo=0
if why=$(probe); then
  echo "race detector: on"
  race=(-race) cgo=1
  export GORACE="atexit_sleep_ms=50 ${GORACE:-}"
else
  echo "race detector: off, $why"
fi
if [ "${1:-}" = --probe ]; then exit $((1 - cgo)); fi
run=(go test)
if [ "${1:-}" = --report ]; then
  name=${2:?--report needs a name}
  shift 2
  format=standard-quiet
  for argument in "$@"; do if [ "$argument" = -v ]; then format=standard-verbose; fi; done
  mkdir -p "$root/bin/test"
  run=("$("$root/hack/gotestsum.sh")" --format "$format" --hide-summary skipped
    --jsonfile "$root/bin/test/$name.json" --junitfile "$root/bin/test/$name.xml" --)
fi
CGO_ENABLED=$cgo exec "${run[@]}" -trimpath ${race[@]+"${race[@]}"} "$@"
