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
#
# Where KUBEBUILDER_ASSETS names a folder with etcd and kube-apiserver (setup-envtest makes
# one) these are taken from there, and kubectl if it is there, too. The rest is compiled; it
# is of the version in hack/control-plane/go.mod, whatever the version of the API server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. hack/compile.sh

key=$(key_of hack/control-plane hack/snapshotter)
out=$PWD/bin/control-plane-$key
assets=${KUBEBUILDER_ASSETS:-}
if [ -x "$assets/etcd" ] && [ -x "$assets/kube-apiserver" ]; then
  # Beside the folder of what is compiled, which is not swept away for it.
  out=$PWD/bin/assets-$(echo "$key $(cd "$assets" && pwd) $("$assets/kube-apiserver" --version)" | sha256sum | cut -c1-16)
else
  assets=
fi
if [ "${1:-}" = --path ]; then
  echo "$out"
  exit 0
fi

(cd hack/gatewayapi && go mod download sigs.k8s.io/gateway-api)

alone
what="control plane" n=0 total=7 hint="the first build takes 6 to 10 minutes on two cores"
k8s=$(version_of hack/control-plane k8s.io/kubernetes)
stamp="-X k8s.io/component-base/version.gitVersion=$k8s -X k8s.io/client-go/pkg/version.gitVersion=$k8s"
if [ -n "$assets" ]; then
  echo "control plane: etcd and kube-apiserver ($("$assets/kube-apiserver" --version)) are those of KUBEBUILDER_ASSETS" >&2
  for program in etcd kube-apiserver kubectl; do
    if [ -x "$assets/$program" ]; then ln -sf "$(cd "$assets" && pwd)/$program" "$out/$program"; fi
  done
fi
build hack/control-plane go.etcd.io/etcd/server/v3 etcd
build hack/control-plane k8s.io/kubernetes/cmd/kube-apiserver kube-apiserver "$stamp"
build hack/control-plane k8s.io/kubernetes/cmd/kube-controller-manager kube-controller-manager "$stamp"
build hack/control-plane k8s.io/kubernetes/cmd/kube-scheduler kube-scheduler "$stamp"
build hack/control-plane k8s.io/kubernetes/cmd/kubectl kubectl "$stamp"
build hack/snapshotter github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller snapshot-controller
build hack/snapshotter github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter csi-snapshotter

if [ -n "$assets" ]; then sweep bin/assets; else sweep bin/control-plane; fi
echo "$out"
