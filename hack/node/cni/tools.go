//go:build tools

// Package cni pins the programs that connect the development node's pods with a
// bridge. It is never built itself: hack/node.sh compiles each import.
package cni

import (
	_ "github.com/containernetworking/plugins/plugins/ipam/host-local"
	_ "github.com/containernetworking/plugins/plugins/main/bridge"
	_ "github.com/containernetworking/plugins/plugins/main/loopback"
)
