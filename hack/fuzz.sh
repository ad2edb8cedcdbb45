#!/usr/bin/env bash
# Runs the fuzz tests of the main module, as many side by side as there are processors,
# each for a while, and prints each with its time and how many inputs it tried. All are run; the exit
# code is 1 if any failed. The input that made one fail is then in testdata/fuzz
# beside the test: commit it with the mended code, and every later run of the
# tests tries it.
#
#   hack/fuzz.sh              all fuzz tests, FUZZTIME (5s) each
#   hack/fuzz.sh --list       only print their names
#   hack/fuzz.sh NAME...      only these; names as printed
#
# Whatever the fuzzer finds worth keeping stays in bin/fuzz/corpus for the next run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

FUZZTIME=${FUZZTIME:-5s}
export CGO_ENABLED=0 GOWORK=off
out=$PWD/bin/fuzz

# Only our own code, and the arithmetic of sizes, tells the fuzzer which way it
# took: with "go test -fuzz" every library would, which takes minutes to compile
# and makes each try fifty times as long. Elsewhere the fuzzer is blind.
instrumented=()
case $(go env GOARCH) in
  amd64 | arm64)
    module=$(go list -m)
    for packages in "$module/cmd/..." "$module/pkg/..." "$module/hack/..." k8s.io/apimachinery/pkg/api/resource; do
      instrumented+=("-gcflags=$packages=-d=libfuzzer")
    done
    ;;
  *) echo "fuzz: Go cannot watch the code on $(go env GOARCH); inputs are random" >&2 ;;
esac

# folders prints where fuzz tests are. Nested modules have none.
folders() {
  git ls-files --cached --others --exclude-standard -- '*_test.go' ':!vendor/' |
    while read -r file; do
      if [ -f "$file" ] && grep -q '^func Fuzz' "$file"; then dirname "$file"; fi
    done | LC_ALL=C sort -u
}

binary() { echo "$out/${1//\//-}.test"; }

# compile makes the test binary of each package; it does what go test would do
# for every fuzz test again.
compile() {
  local folder
  mkdir -p "$out"
  for folder in "$@"; do
    go test -c "${instrumented[@]}" -o "$(binary "$folder")" "./$folder"
  done
}

# try FOLDER NAME LOG fuzzes from within the folder, as go test does: testdata is there.
try() {
  (cd "$1" && exec "$(binary "$1")" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "$FUZZTIME" \
    -test.fuzzminimizetime 10s -test.parallel 1 -test.fuzzcachedir "$out/corpus/$1") </dev/null >"$3" 2>&1 &&
    return
  # At the end of its time the fuzzer itself sometimes trips over its own clock.
  grep -qx ' *context deadline exceeded' "$3" && ! grep -q 'Failing input\|panic: ' "$3"
}

# report FOLDER NAME runs one fuzz test and prints what came of it. A test that fails leaves
# a file in $failures.
report() {
  local what=$1/$2 began=$SECONDS log="$out/log-${1//\//-}-$2"
  if try "$1" "$2" "$log"; then
    echo "fuzz: $what ok ($((SECONDS - began)) s, $(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -1) inputs)"
  else
    touch "$failures/${what//\//-}"
    # In one piece, as others write, too.
    printf '%s\n' "$(sed 's/^/    /' "$log"; echo "fuzz: $what FAILED ($((SECONDS - began)) s)")"
  fi
  rm -f "$log"
}

mapfile -t all < <(folders)
if [ ${#all[@]} = 0 ]; then
  echo "fuzz: no fuzz test found" >&2
  exit 1
fi
list=
if [ "${1:-}" = --list ]; then list=yes; shift; fi
wanted=("$@") known=() tried=0 start=$SECONDS atonce=$(getconf _NPROCESSORS_ONLN)
compile "${all[@]}"
failures=$(mktemp -d)
trap 'rm -rf "$failures"' EXIT
[ -n "$list" ] || echo "fuzz: ${#all[@]} packages compiled ($SECONDS s)"
for folder in "${all[@]}"; do
  names=$(cd "$folder" && "$(binary "$folder")" -test.list '^Fuzz')
  for name in $names; do
    what=$folder/$name
    known+=("$what")
    if [ -n "$list" ]; then echo "$what"; continue; fi
    if [ ${#wanted[@]} -gt 0 ] && [[ ! " ${wanted[*]} " == *" $what "* ]]; then continue; fi
    while [ "$(jobs -rp | wc -l)" -ge "$atonce" ]; do wait -n || true; done
    report "$folder" "$name" &
    tried=$((tried + 1))
  done
done
wait

for what in ${wanted[@]+"${wanted[@]}"}; do
  if [[ ! " ${known[*]} " == *" $what "* ]]; then
    echo "fuzz: no fuzz test is called $what; there are: ${known[*]}" >&2
    exit 2
  fi
done
if [ -n "$list" ]; then exit; fi
failed=$(ls "$failures")
if [ -n "$failed" ]; then
  echo "fuzz: of $tried these FAILED in $((SECONDS - start)) s:" $failed
  exit 1
fi
echo "fuzz: all $tried ok in $((SECONDS - start)) s"
