#!/usr/bin/env bash
# Compiles what the development node consists of into a folder under bin/ that is named
# after what it was built from, and prints that folder's path last. Nothing is rebuilt
# unless a go.sum, a list of programs or Go itself changes.
#
#   hack/node.sh            build what is missing, print the folder
#   hack/node.sh --suite    Kubernetes' test suite, too
#   hack/node.sh --path     print the folder only
#
# Programs: kubelet, containerd with its shim and ctr, the CNI plugins bridge, loopback
# and host-local, and for the images pause and agnhost, all from Go modules. runc and
# busybox are taken out of Debian's packages: runc needs C and libseccomp to be compiled.
# Nothing is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. hack/compile.sh

out=$PWD/bin/node-$(key_of hack/node/kubernetes hack/node/containerd hack/node/cni)
if [ "${1:-}" = --path ]; then
  echo "$out"
  exit 0
fi

# from_debian PACKAGE PATH: takes one file, given by the end of its path, out of a Debian
# package into $out.
from_debian() {
  n=$((n + 1))
  local program=${2##*/} tmp
  if [ -x "$out/$program" ]; then return; fi
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "node: $program is taken from Debian's package $1, and there is no apt-get here; put one at $out/$program" >&2
    return 1
  fi
  echo "node [$n/$total] fetching $program from Debian's package $1 ..." >&2
  tmp=$(mktemp -d)
  download() { (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download "$1") >"$tmp/log" 2>&1; }
  if ! download "$1" && ! { apt-get -q update >"$tmp/update" 2>&1 && download "$1"; }; then
    sed 's/^/    /' "$tmp/log" >&2
    echo "node: package $1 could not be fetched; run apt-get update as root, or put one at $out/$program" >&2
    rm -rf "$tmp"
    return 1
  fi
  dpkg-deb -x "$tmp"/*.deb "$tmp/root"
  install -m 755 "$(find "$tmp/root" -type f -path "*/$2" | head -1)" "$out/$program"
  rm -rf "$tmp"
}

alone
what=node n=0 total=11 hint="the first build takes about 5 minutes on two cores"
k8s=$(version_of hack/node/kubernetes k8s.io/kubernetes)
stamp="-X k8s.io/component-base/version.gitVersion=$k8s -X k8s.io/client-go/pkg/version.gitVersion=$k8s"
cni=github.com/containernetworking/plugins/plugins
build hack/node/cni $cni/main/bridge bridge
build hack/node/cni $cni/main/loopback loopback
build hack/node/cni $cni/ipam/host-local host-local
build hack/node/containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 containerd-shim-runc-v2
build hack/node/containerd github.com/containerd/containerd/v2/cmd/ctr ctr
build hack/node/containerd github.com/containerd/containerd/v2/cmd/containerd containerd "" "no_btrfs no_devmapper no_zfs"
build hack/node/kubernetes k8s.io/kubernetes/cmd/kubelet kubelet "$stamp"
build hack/node/kubernetes k8s.io/kubernetes/test/images/agnhost agnhost
n=$((n + 1))
go_build . ./hack/node/pause "$out/pause" # ours: it changes without a key, and takes no time
from_debian busybox-static bin/busybox
from_debian runc sbin/runc

if [ "${1:-}" = --suite ]; then
  total=13 hint="the first build takes about 5 minutes on two cores"
  build hack/node/kubernetes github.com/onsi/ginkgo/v2/ginkgo ginkgo
  go_command="go test -c" build hack/node/kubernetes k8s.io/kubernetes/test/e2e e2e.test "$stamp"
fi

sweep bin/node
echo "$out"
