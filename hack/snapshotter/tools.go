//go:build tools

// Package snapshotter pins the snapshot controller and the snapshot sidecar of
// the development control plane. It is a module of its own because of the
// replace directives that it would otherwise share with Kubernetes.
package snapshotter

import (
	_ "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter"
	_ "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller"
)
