#!/usr/bin/env bash
# Looks at the source without running it: gofmt, go vet and golangci-lint, in the
# main module and in every nested module that has Go code of ours. All are run;
# the exit code is 1 if any of them has something to say.
#
#   hack/lint.sh           lint
#   hack/lint.sh --main    lint the main module only
#   hack/lint.sh --fix     let gofmt and golangci-lint correct what they can
#
# golangci-lint is compiled from hack/tools into bin/golangci-lint-<key>, once
# for each hack/tools/go.sum and version of Go. Its settings are in .golangci.yml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# With -mod=mod the go command would correct go.mod on the way.
GOFLAGS=$(sed "s/-mod=[a-z]*//g" <<<"${GOFLAGS:-}")
export GOFLAGS

fix='' main=''
case "${1:-}" in
  '') ;;
  --fix) fix=yes ;;
  --main) main=yes ;;
  *) echo "usage: hack/lint.sh [--fix | --main]" >&2; exit 2 ;;
esac

key=$({ cat hack/tools/go.mod hack/tools/go.sum; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-16)
linter=$PWD/bin/golangci-lint-$key

# build_linter compiles golangci-lint unless this key has it already, with a sign
# of life twice a minute, and moves it into place only when it is whole.
build_linter() {
  if [ -x "$linter" ]; then return; fi
  local began=$SECONDS job
  echo "lint: compiling golangci-lint (once; one to two minutes on two cores) ..." >&2
  (cd hack/tools && CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=readonly" \
    exec go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$linter.$$" \
    github.com/golangci/golangci-lint/v2/cmd/golangci-lint) &
  job=$!
  trap 'kill "$job" 2>/dev/null || true; rm -f "$linter.$$"' EXIT
  while kill -0 "$job" 2>/dev/null; do
    for _ in $(seq 30); do kill -0 "$job" 2>/dev/null || break; sleep 1; done
    ! kill -0 "$job" 2>/dev/null || echo "lint: still compiling golangci-lint ($((SECONDS - began)) s)" >&2
  done
  wait "$job"
  trap - EXIT
  for old in bin/golangci-lint-*; do
    case $old in *.*) ;; *) rm -f "$old" ;; esac # another run's unfinished one stays
  done
  mv "$linter.$$" "$linter"
  echo "lint: golangci-lint compiled in $((SECONDS - began)) s" >&2
}

# modules prints the folders of the modules that have Go packages of ours. Those
# that only pin programs have none.
modules() {
  local mod dir
  git ls-files --cached --others --exclude-standard -- go.mod '*/go.mod' | grep -v '^vendor/' | LC_ALL=C sort | while read -r mod; do
    dir=$(dirname "$mod")
    if [ -f "$mod" ] && [ -n "$(cd "$dir" && go list -e ./... 2>/dev/null)" ]; then echo "$dir"; fi
  done
}

check_gofmt() {
  local name found=0
  local -a files=()
  while IFS= read -r -d '' name; do
    if [ -f "$name" ]; then files+=("$name"); fi
  done < <(git ls-files -z --cached --others --exclude-standard -- '*.go' ':!vendor/')
  if [ ${#files[@]} = 0 ]; then echo "gofmt: no Go files found"; return 1; fi
  if [ -n "$fix" ]; then gofmt -s -w "${files[@]}"; return; fi
  while IFS= read -r name; do
    echo "$name: not formatted; run hack/lint.sh --fix"
    found=1
  done < <(gofmt -s -l "${files[@]}" 2>&1)
  return $found
}

check_vet() { (cd "$1" && go vet ./...); }

check_golangci() { (cd "$1" && "$linter" run ${fix:+--fix} ./...); }

failed=0
step() { # step NAME COMMAND...
  local name=$1 began=$SECONDS
  shift
  echo "lint: $name ..."
  if "$@"; then
    echo "lint: $name ok ($((SECONDS - began)) s)"
  else
    echo "lint: $name FAILED ($((SECONDS - began)) s)"
    failed=1
  fi
}

mkdir -p bin
build_linter
step gofmt check_gofmt
for module in $(if [ -n "$main" ]; then echo .; else modules; fi); do
  step "go vet in $module" check_vet "$module"
  step "golangci-lint in $module" check_golangci "$module"
done
exit $failed
