#!/usr/bin/env bash
# Makes what a release consists of, in bin/release: the program for each platform, what
# is in it (CycloneDX), the licences of that, and checksums. The same source makes the same
# bytes.
#
#   hack/release.sh v1.2.3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${1:?usage: hack/release.sh VERSION}
out=bin/release
rm -rf "$out"
mkdir -p "$out"
inventory=$PWD/bin/inventory
(cd hack/inventory && go build -trimpath -buildvcs=false -o "$inventory" .)
for arch in amd64 arm64; do
  program=$out/csi-clone-provisioner-linux-$arch
  GOOS=linux GOARCH=$arch make --no-print-directory build PROGRAM="$program" VERSION="$version"
  "$inventory" sbom . "$program" "$version" >"$program.cdx.json"
done
"$inventory" licences . >"$out/LICENCES.txt"
cp LICENSE "$out/"
(cd "$out" && sha256sum -- * >../SHA256SUMS && mv ../SHA256SUMS .)
cat "$out/SHA256SUMS"
