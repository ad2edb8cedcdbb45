#!/usr/bin/env bash
# Builds the image by the Dockerfile for both platforms, without network, and runs the
# program in it: as nobody, on a root that is read-only, on a real control plane. Prints
# the sizes.
#
#   hack/image-check.sh     takes root; and buildah, in Debian the package of that name
#
# Where buildah is missing the root is put together by the test, of what the Dockerfile
# names. The base image is made of this machine's Go, so nothing is pulled; what Go has
# compiled already is not compiled again. Nothing is left behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run() { hack/gotest.sh ./test/integration -count=1 -v -run 'TestTheImageRunsReadOnlyAndWithoutRoot$'; }

if [ "$(id -u)" != 0 ]; then
  echo "image-check: takes root, to mount a root file system" >&2
  exit 1
fi
if ! command -v buildah >/dev/null; then
  echo "image-check: there is no buildah (in Debian the package of that name); the root is put together without the Dockerfile"
  run
  exit
fi

export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot # these work inside a container, too
tmp=$(mktemp -d "${TMPDIR:-/tmp}/image-check.XXXXXX")
b() { buildah --root "$tmp/storage" --runroot "$tmp/run" "$@"; }
trap 'b umount --all >/dev/null 2>&1 || true; b rm --all >/dev/null 2>&1 || true; rm -rf "$tmp"' EXIT

base=$(sed -n 's/^FROM --platform=$BUILDPLATFORM \([^ ]*\) AS build$/\1/p' Dockerfile)
echo "image-check: making $base of $(go env GOROOT)"
container=$(b from scratch)
root=$(b mount "$container")
mkdir -p "$root/usr/local" "$root/bin" "$root/tmp" "$root/root"
cp -R "$(go env GOROOT)" "$root/usr/local/go"
for program in sh ln; do
  path=$(command -v "$program")
  cp -L "$path" "$root/bin/$program"
  for library in $(ldd "$path" | grep -o '/[^ ]*'); do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
  done
done
b umount "$container" >/dev/null
b config --env PATH=/usr/local/go/bin:/bin --env HOME=/root --env GOCACHE=/cache --env GOTOOLCHAIN=local "$container"
b commit -q "$container" "docker.io/library/$base" >/dev/null

cache=$(go env GOCACHE)
mkdir -p "$cache"
make --no-print-directory images IMAGE=localhost/image:check VERSION=v0.0.0-check \
  IMAGE_TOOL="buildah --root $tmp/storage --runroot $tmp/run" \
  IMAGE_FLAGS="--quiet --pull-never --network none --volume $cache:/cache" >/dev/null
for arch in amd64 arm64; do
  container=$(b from --pull-never --arch "$arch" localhost/image:check)
  root=$(b mount "$container")
  b inspect --format 'image-check: {{.OCIv1.Architecture}}, entry point {{.OCIv1.Config.Entrypoint}}, user "{{.OCIv1.Config.User}}", {{range $key, $value := .OCIv1.Config.Labels}}{{$key}}={{$value}} {{end}}{{"\n"}}' "$container"
  b commit -q --disable-compression=false "$container" "oci:$tmp/oci-$arch" >/dev/null
  packed=$(cat "$tmp/oci-$arch"/blobs/sha256/* | wc -c)
  echo "image-check: $arch, $(find "$root" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }') bytes, packed for the registry $packed"
  if ! go version -m "$root/csi-clone-provisioner" | grep -q "GOARCH=$arch\$"; then
    echo "image-check: the program in the image for $arch is not compiled for it" >&2
    exit 1
  fi
  if [ "$arch" = "$(go env GOHOSTARCH)" ]; then IMAGE_ROOT=$root; fi
done
export IMAGE_ROOT
make --no-print-directory build PROGRAM="$tmp/program" VERSION=v0.0.0-check >/dev/null
if ! cmp "$tmp/program" "$IMAGE_ROOT/csi-clone-provisioner"; then
  echo "image-check: the Dockerfile does not build the program that make build does" >&2
  exit 1
fi
run
