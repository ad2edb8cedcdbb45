#!/usr/bin/env bash
# Writes the generated files, whose source is the code itself:
#
#   docs/flags.md, docs/events.md   by hack/gendocs, from the options and the
#                                   catalogue of reasons
#   hack/deps.txt                   the packages that are linked into the product;
#                                   a change to it is reviewed like code
#
#   hack/generate.sh            into the work tree
#   hack/generate.sh --out DIR  into DIR instead, under the same names
#   hack/generate.sh --list     print the names only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

files=(docs/flags.md docs/events.md hack/deps.txt)
out=$PWD
case "${1:-}" in
  '') ;;
  --out) out=${2:?--out needs a folder} ;;
  --list) printf '%s\n' "${files[@]}"; exit ;;
  *) echo "usage: hack/generate.sh [--out DIR | --list]" >&2; exit 2 ;;
esac
mkdir -p "$out/docs" "$out/hack"
out=$(cd "$out" && pwd)

# The environment of the person who generates must not show in the result.
export LC_ALL=C GOWORK=off

echo "generate: docs/flags.md, docs/events.md" >&2
go run ./hack/gendocs --out "$out"

echo "generate: hack/deps.txt" >&2
# A list that could not be made must not replace one that was.
{
  echo '# Packages linked into the product on linux/amd64. Written by hack/generate.sh.'
  GOOS=linux GOARCH=amd64 CGO_ENABLED=0 \
    go list -tags grpcnotrace -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./cmd/... | sort -u
} >"$out/hack/.deps.txt.tmp"
mv "$out/hack/.deps.txt.tmp" "$out/hack/deps.txt"
