#!/usr/bin/env bash
# Prints what "make test" has left in bin/test: how long each stage took, and the twenty
# slowest tests. The same is kept in bin/test/report.txt; bin/test/*.xml are the results
# of all tests in JUnit's format.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

slowest() {
  # A subtest counts apart from its test. The time that a parallel test waits for its turn is
  # not in it.
  cat bin/test/*.json | "$(hack/gotestsum.sh)" tool slowest --num 20 | sed -E 's#^[^ ]*csi-clone-provisioner/##'
}

{
  echo "=== stages"
  awk -F '\t' '{ printf "%8d s  %s%s\n", $2, $1, $3 == 0 ? "" : "  FAILED" }' bin/test/stages
  echo "=== the twenty slowest tests"
  slowest
} | tee bin/test/report.txt
