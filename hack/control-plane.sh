#!/usr/bin/env bash
# Compiles the development control plane from its Go modules into a folder under bin/
# that is named after what it was built from, and prints that folder's path last.
# Nothing is rebuilt unless a go.sum, the list of programs or Go itself changes.
#
#   hack/control-plane.sh            build what is missing, print the folder
#   hack/control-plane.sh --path     print the folder only
#
# Programs: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl,
# snapshot-controller, csi-snapshotter. The manifest of the ReferenceGrant CRD, which
# tests take from its module's folder, is fetched on the way.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

modules=(hack/control-plane hack/snapshotter)
key=$({ for m in "${modules[@]}"; do cat "$m/go.sum" "$m/tools.go"; done; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-16)
out=$PWD/bin/control-plane-$key
if [ "${1:-}" = --path ]; then
  echo "$out"
  exit 0
fi

version_of() { (cd "$1" && go list -m -f '{{.Version}}' "$2"); }

# build MODULE PACKAGE PROGRAM [LDFLAGS]: one program, moved into place only when it is whole.
total=7 n=0
build() {
  n=$((n + 1))
  if [ -x "$out/$3" ]; then return; fi
  local began=$SECONDS
  echo "control plane [$n/$total] compiling $3 ..." >&2
  (cd "$1" && CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=readonly" \
    go build -trimpath -buildvcs=false -ldflags "-s -w ${4:-}" -o "$out/.$3.tmp" "$2") &
  local job=$!
  trap 'kill "$job" 2>/dev/null || true' EXIT
  # A sign of life for the reader, twice a minute.
  while kill -0 "$job" 2>/dev/null; do
    for _ in $(seq 30); do kill -0 "$job" 2>/dev/null || break; sleep 1; done
    ! kill -0 "$job" 2>/dev/null || echo "control plane [$n/$total] still compiling $3 ($((SECONDS - began)) s; the first build takes 6 to 10 minutes on two cores)" >&2
  done
  wait "$job"
  trap - EXIT
  mv "$out/.$3.tmp" "$out/$3"
  echo "control plane [$n/$total] $3 done in $((SECONDS - began)) s" >&2
}

(cd hack/gatewayapi && go mod download sigs.k8s.io/gateway-api)

mkdir -p "$out"
exec 9>"$out/.lock"
if command -v flock >/dev/null; then flock 9; fi # two makes at once build once

k8s=$(version_of hack/control-plane k8s.io/kubernetes)
stamp="-X k8s.io/component-base/version.gitVersion=$k8s -X k8s.io/client-go/pkg/version.gitVersion=$k8s"
build hack/control-plane go.etcd.io/etcd/server/v3 etcd
build hack/control-plane k8s.io/kubernetes/cmd/kube-apiserver kube-apiserver "$stamp"
build hack/control-plane k8s.io/kubernetes/cmd/kube-controller-manager kube-controller-manager "$stamp"
build hack/control-plane k8s.io/kubernetes/cmd/kube-scheduler kube-scheduler "$stamp"
build hack/control-plane k8s.io/kubernetes/cmd/kubectl kubectl "$stamp"
build hack/snapshotter github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller snapshot-controller
build hack/snapshotter github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter csi-snapshotter

# What older keys left behind is a gigabyte apiece.
for old in bin/control-plane-*; do
  [ "$PWD/$old" = "$out" ] || rm -rf "$old"
done
echo "$out"
