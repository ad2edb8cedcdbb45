#!/usr/bin/env bash
# Runs a command as a named stage: says when it begins, gives a sign of life once a
# minute, says how it ended and how long it took. The exit code is the command's.
#
#   hack/stage.sh NAME COMMAND...
#
# With STAGES=FILE it adds a line to the file: name, seconds and exit code, for
# hack/test-report.sh.
set -uo pipefail
if [ $# -lt 2 ]; then
  echo "usage: hack/stage.sh NAME COMMAND..." >&2
  exit 2
fi
name=$1
shift
echo "=== stage $name"

# The pause is a read from a pipe into which nobody writes: unlike sleep it is no
# process of its own that could be left behind.
life() {
  local nothing
  exec 3<> <(:)
  while ! read -r -t 60 -u 3 nothing; do echo "=== stage $name: $SECONDS s and going on" >&2; done
}
life &
life=$!
trap 'kill "$life" 2>/dev/null' EXIT

"$@"
code=$?
if [ -n "${STAGES:-}" ]; then printf '%s\t%d\t%d\n' "$name" "$SECONDS" "$code" >>"$STAGES"; fi
if [ $code = 0 ]; then
  echo "=== stage $name took $SECONDS s"
else
  echo "=== stage $name FAILED with code $code after $SECONDS s"
fi
exit $code
