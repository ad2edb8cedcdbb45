#!/usr/bin/env bash
# Checks what every commit should hold to, in under two minutes on two cores once the tools
# are compiled: format, vet and lint of the main module, the conventions of the repository,
# and the unit tests of the packages that changed or depend on what changed. The go command
# knows which these are: it repeats the results of all others. "make test" runs everything.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CGO_ENABLED=0 GOWORK=off
failed=

check() { # check NAME COMMAND...
  local name=$1 began=$SECONDS
  shift
  if "$@"; then
    echo "check: $name ok ($((SECONDS - began)) s)"
  else
    echo "check: $name FAILED ($((SECONDS - began)) s)"
    failed="$failed $name"
  fi
}

# The packages that "make unit" tests; the conventions, which read files that the go command
# does not know of, are tested each time.
unit() { go test -trimpath ./cmd/... ./pkg/... ./hack/... ./test/kit/... ./test/cases/... ./test/bench/figures/... ./test/bench/stub/... | { grep -v 'no test files\|(cached)' || true; }; }

check lint hack/lint.sh --main
check conventions go test -count=1 ./test/house/...
check unit unit
if [ -n "$failed" ]; then
  echo "check: FAILED in $SECONDS s:$failed"
  exit 1
fi
echo "check: all ok in $SECONDS s"
