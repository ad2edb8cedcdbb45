#!/usr/bin/env bash
# Compiles the program twice, here and in a copy at another place without git, and
# compares. What is compiled already for the one is used for the other, if Go's cache says
# that it would be the same: so this looks at flags and folders, and is quick.
#
#   hack/reproducible.sh           as above
#   hack/reproducible.sh --full    with an empty cache for each (some minutes)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

full=
case "${1:-}" in
  '') ;;
  --full) full=yes ;;
  *) echo "usage: hack/reproducible.sh [--full]" >&2; exit 2 ;;
esac

tmp=$(mktemp -d "${TMPDIR:-/tmp}/reproducible.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# compile NAME FOLDER
compile() {
  if [ -n "$full" ]; then export GOCACHE=$tmp/cache-$1; fi
  make --no-print-directory -C "$2" build PROGRAM="$tmp/$1" VERSION=v0.0.0-twice
}

copy=$tmp/some/other/place
mkdir -p "$copy"
cp -R Makefile go.mod go.sum cmd pkg vendor "$copy"
(compile here "$PWD")
(TZ=Asia/Tokyo LC_ALL=C compile there "$copy")

cd "$tmp"
sha256sum here there
if ! cmp here there; then
  echo "two builds of the same source differ"
  exit 1
fi
