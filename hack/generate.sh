#!/usr/bin/env bash
# Writes the generated files, whose source is the code itself:
#
#   docs/flags.md, docs/events.md   by hack/gendocs, from the options and the
#                                   catalogue of reasons
#   hack/deps.txt                   the packages that are linked into the product;
#                                   a change to it is reviewed like code
#   deploy/kubernetes/components    one for each rbac-NAME.yaml beside it, and one with
#                                   the demo driver: kustomize reads no file that is
#                                   not in or below the folder of its kustomization
#   test/house/words.txt            how much of our own wording is left; only lowered
#
#   hack/generate.sh            into the work tree
#   hack/generate.sh --out DIR  into DIR instead, under the same names
#   hack/generate.sh --list     print the names only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

manifests=deploy/kubernetes
components=$manifests/components
demo=(csidriver.yaml storageclass.yaml deployment.yaml)

# component_of prints the name of the component for a file rbac-NAME.yaml.
component_of() { basename "$1" .yaml | sed 's/^rbac-//'; }

files=(docs/flags.md docs/events.md hack/deps.txt test/house/words.txt)
for rbac in "$manifests"/rbac-*.yaml; do
  files+=("$components/$(component_of "$rbac")"/{kustomization,rbac}.yaml)
done
for name in "${demo[@]}" kustomization.yaml; do files+=("$components/demo-driver/$name"); done
out=$PWD
case "${1:-}" in
  '') ;;
  --out) out=${2:?--out needs a folder} ;;
  --list) printf '%s\n' "${files[@]}"; exit ;;
  *) echo "usage: hack/generate.sh [--out DIR | --list]" >&2; exit 2 ;;
esac
for name in "${files[@]}"; do mkdir -p "$out/$(dirname "$name")"; done
out=$(cd "$out" && pwd)

# The environment of the person who generates must not show in the result.
export LC_ALL=C GOWORK=off

echo "generate: docs/flags.md, docs/events.md" >&2
go run ./hack/gendocs --out "$out"

echo "generate: hack/deps.txt" >&2
# A list that could not be made must not replace one that was.
{
  echo '# Packages linked into the product on linux/amd64. Written by hack/generate.sh.'
  GOOS=linux GOARCH=amd64 CGO_ENABLED=0 \
    go list -tags grpcnotrace -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./cmd/... | sort -u
} >"$out/hack/.deps.txt.tmp"
mv "$out/hack/.deps.txt.tmp" "$out/hack/deps.txt"

echo "generate: test/house/words.txt" >&2
go run ./hack/lowerwords >"$out/test/house/.words.txt.tmp"
mv "$out/test/house/.words.txt.tmp" "$out/test/house/words.txt"

echo "generate: $components" >&2
# kustomization FILE...: of a component that holds the files.
kustomization() {
  echo '# Written by hack/generate.sh, like the files beside it.'
  echo 'apiVersion: kustomize.config.k8s.io/v1alpha1'
  echo 'kind: Component'
  echo 'resources:'
  printf '  - %s\n' "$@"
}
for rbac in "$manifests"/rbac-*.yaml; do
  to=$out/$components/$(component_of "$rbac")
  { echo "# Written by hack/generate.sh from $rbac."; cat "$rbac"; } >"$to/rbac.yaml"
  kustomization rbac.yaml >"$to/kustomization.yaml"
done
to=$out/$components/demo-driver
for name in "${demo[@]}"; do
  { echo "# Written by hack/generate.sh from $manifests/$name."; cat "$manifests/$name"; } >"$to/$name"
done
kustomization "${demo[@]}" >"$to/kustomization.yaml"
