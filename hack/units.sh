#!/usr/bin/env bash
# Prints the packages of the main module that "make unit" tests: all but those that have a
# target of their own in the Makefile, because they take long or measure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go list ./... | grep -v -e '/test/integration$' -e '/test/chaos$' -e '/test/bench$'
