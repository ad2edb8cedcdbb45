#!/usr/bin/env bash
# Checks everything that can be checked without running the product: style,
# conventions, and that nothing which is derived from something else has been left
# behind. Every check is run, each is printed with its time, and the exit code is 1
# if any failed. The work tree is not touched.
#
#   hack/verify.sh            all checks
#   hack/verify.sh NAME...    only these; names as printed
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# With -mod=mod the go command would correct go.mod on the way.
GOFLAGS=$(sed "s/-mod=[a-z]*//g" <<<"${GOFLAGS:-}")
export GOFLAGS
export GOWORK=off

tmp=$(mktemp -d "${TMPDIR:-/tmp}/verify.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT

# modules prints the folder of every module of ours.
modules() {
  git ls-files --cached --others --exclude-standard -- go.mod '*/go.mod' | grep -v '^vendor/' | LC_ALL=C sort | while read -r mod; do
    if [ -f "$mod" ]; then dirname "$mod"; fi
  done
}

check_tidy() { (cd "$1" && go mod tidy -diff); }

# check_vendor makes vendor/ again beside the work tree and compares.
check_vendor() {
  go mod vendor -o "$tmp/vendor" || return
  if ! diff -rq "$tmp/vendor" vendor; then
    echo "vendor/ is not what go.mod says; run go mod vendor"
    return 1
  fi
}

# check_generated generates beside the work tree and compares.
check_generated() {
  local name stale=0
  hack/generate.sh --out "$tmp/generated" || return
  for name in $(hack/generate.sh --list); do
    if ! diff -u "$name" "$tmp/generated/$name"; then
      echo "$name is not what the code says; run hack/generate.sh"
      stale=1
    fi
  done
  return $stale
}

# Passed results are not reused: git, which the tests ask for the list of files,
# is out of the go command's sight.
check_house() { go test -count=1 ./test/house/...; }

# check_binary makes the program as make does. Much larger than before means that the
# linker cannot tell any more what is called: something uses text/template or
# reflect's MethodByName (go build -ldflags=-dumpdep shows who, "ReflectMethod").
check_binary() {
  local most=45000000 size
  make --no-print-directory build GOFLAGS="$GOFLAGS" && size=$(wc -c <bin/csi-clone-provisioner) || return
  echo "the program has $size bytes; the image holds nothing else"
  if [ "$size" -gt "$most" ]; then
    echo "that is more than $most"
    return 1
  fi
  if ! grep -q -- "-tags $(sed -n 's/^GO_TAGS = //p' Makefile) " Dockerfile; then
    echo "the Dockerfile does not build with the tags of the Makefile"
    return 1
  fi
}

# check_licences fails on a licence that is not allowed, and sees to it that a bill of
# materials can be made.
check_licences() {
  make --no-print-directory build PROGRAM="$tmp/program" VERSION=v0.0.0 GOFLAGS="$GOFLAGS" &&
    (cd hack/inventory && go build -o "$tmp/inventory" . && "$tmp/inventory" licences ../.. && "$tmp/inventory" sbom ../.. "$tmp/program" v0.0.0 >"$tmp/sbom") &&
    grep '"specVersion"' "$tmp/sbom"
}

wanted=("$@") known=() failed=() passed=0
check() { # check NAME COMMAND...
  local name=$1 began=$SECONDS
  shift
  known+=("$name")
  if [ ${#wanted[@]} -gt 0 ] && [[ ! " ${wanted[*]} " == *" $name "* ]]; then return; fi
  echo "verify: $name ..."
  if "$@" </dev/null >"$tmp/log" 2>&1; then
    passed=$((passed + 1))
    sed -n 's/^skipped: /verify: nothing was looked at: /p' "$tmp/log"
    echo "verify: $name ok ($((SECONDS - began)) s)"
  else
    failed+=("$name")
    sed 's/^/    /' "$tmp/log"
    echo "verify: $name FAILED ($((SECONDS - began)) s)"
  fi
}

skip() { # skip NAME WHY
  known+=("$1")
  if [ ${#wanted[@]} = 0 ] || [[ " ${wanted[*]} " == *" $1 "* ]]; then echo "verify: $1 SKIPPED, $2"; fi
}

check house check_house
check generated check_generated
check binary check_binary
check licences check_licences
check reproducible hack/reproducible.sh
check vulnerabilities hack/vulnerabilities.sh
for module in $(modules); do check "tidy:$module" check_tidy "$module"; done
check vendor check_vendor
if hack/alerts.sh --probe >"$tmp/promtool" 2>&1; then
  check alerts hack/alerts.sh
else
  skip alerts "$(cat "$tmp/promtool")"
fi
check lint hack/lint.sh

for name in ${wanted[@]+"${wanted[@]}"}; do
  if [[ ! " ${known[*]} " == *" $name "* ]]; then
    echo "verify: no check is called $name; there are: ${known[*]}" >&2
    exit 2
  fi
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "verify: $passed ok, ${#failed[@]} FAILED: ${failed[*]}"
  exit 1
fi
echo "verify: all $passed ok"
