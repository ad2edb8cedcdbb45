#!/usr/bin/env bash
# Tests the alert rules for Prometheus with promtool, which is that of the PATH or
# bin/promtool (.ci/promtool puts it there). Which metrics they name is looked at by
# TestMonitoringNamesMetricsThatAreServed.
#
#   hack/alerts.sh           check and test
#   hack/alerts.sh --probe   exit code 0 if there is a promtool; else 1, and why
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

promtool=$(command -v promtool || { [ -x bin/promtool ] && echo "$PWD/bin/promtool"; } || true)
if [ -z "$promtool" ] || ! "$promtool" --version >/dev/null 2>&1; then
  echo "promtool: none (on Debian and Ubuntu it is in the package prometheus)"
  exit 1
fi
if [ "${1:-}" = --probe ]; then
  echo "promtool: $("$promtool" --version 2>&1 | head -1)"
  exit
fi
cd deploy/monitoring
"$promtool" check rules alerts.yaml
"$promtool" test rules alerts_test.yaml
