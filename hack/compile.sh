# Functions for the scripts that compile programs from nested modules; read by them, not run.

# version_of MODULE PATH: the version of a module that MODULE, a folder, is built with.
version_of() { (cd "$1" && go list -m -f '{{.Version}}' "$2"); }

# key_of FOLDER...: what names the result of compiling: it changes with the modules'
# versions, the list of programs and Go itself.
key_of() {
  { for m in "$@"; do cat "$m/go.sum" "$m/tools.go"; done; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-16
}

# with_life COMMAND...: runs a command, with a sign of life twice a minute. The caller has
# set what (whose doing it is), n, total, doing (a program's name) and hint.
with_life() {
  local began=$SECONDS
  "$@" &
  local job=$!
  trap 'kill "$job" 2>/dev/null || true' EXIT
  while kill -0 "$job" 2>/dev/null; do
    for _ in $(seq 30); do kill -0 "$job" 2>/dev/null || break; sleep 1; done
    ! kill -0 "$job" 2>/dev/null || echo "$what [$n/$total] still compiling $doing ($((SECONDS - began)) s; $hint)" >&2
  done
  wait "$job"
  trap - EXIT
  echo "$what [$n/$total] $doing done in $((SECONDS - began)) s" >&2
}

# go_build MODULE PACKAGE FILE [LDFLAGS [TAGS]]: compiles in a module's folder. Who wants
# a test program sets go_command="go test -c", who wants C sets CGO_ENABLED=1.
go_build() {
  (cd "$1" && CGO_ENABLED=${CGO_ENABLED:-0} GOFLAGS="${GOFLAGS:-} -mod=readonly" \
    ${go_command:-go build} -trimpath -buildvcs=false -tags "${5:-}" -ldflags "-s -w ${4:-}" -o "$3" "$2")
}

# build MODULE PACKAGE PROGRAM [LDFLAGS [TAGS]]: one program into the folder $out, moved
# into place only when it is whole. What is there already is left.
build() {
  n=$((n + 1)) doing=$3
  if [ -x "$out/$3" ]; then return; fi
  echo "$what [$n/$total] compiling $3 ..." >&2
  with_life go_build "$1" "$2" "$out/.$3.tmp" "${4:-}" "${5:-}"
  mv "$out/.$3.tmp" "$out/$3"
}

# alone: two makes at once build once. Waits for the other one, where flock is there.
alone() {
  mkdir -p "$out"
  exec 9>"$out/.lock"
  if command -v flock >/dev/null; then flock 9; fi
}

# sweep PREFIX: what older keys left behind is a gigabyte apiece.
sweep() {
  local old
  for old in "$1"-*; do
    [ "$PWD/$old" = "$out" ] || rm -rf "$old"
  done
}
