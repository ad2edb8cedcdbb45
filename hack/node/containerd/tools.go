//go:build tools

// Package containerd pins the container runtime of the development node. It is never
// built itself: hack/node.sh compiles each import.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
