#!/usr/bin/env bash
# Looks whether the program calls functions that are known to be vulnerable, with
# govulncheck, compiled from hack/govulncheck. That needs Go's vulnerability database,
# which is no Go module and therefore not to be had everywhere:
#
#   GOVULNDB=file:///path/of/a/copy hack/vulnerabilities.sh
#   VULNCHECK=yes hack/vulnerabilities.sh      the public one, over the network
#
# With neither nothing is looked at, and that is said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${GOVULNDB:-}" ] && [ -z "${VULNCHECK:-}" ]; then
  echo "skipped: no vulnerability database; give GOVULNDB=URL of a copy, or VULNCHECK=yes for the public one"
  exit 0
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/vulnerabilities.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
(cd hack/govulncheck && CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=readonly" GOWORK=off go build -o "$tmp/govulncheck" golang.org/x/vuln/cmd/govulncheck)
"$tmp/govulncheck" ${GOVULNDB:+-db "$GOVULNDB"} -tags "$(sed -n 's/^GO_TAGS = //p' Makefile)" ./cmd/...
