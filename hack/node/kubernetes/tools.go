//go:build tools

// Package kubernetes pins what the development node takes from Kubernetes itself: the
// kubelet, the test suite with the program that runs it in parallel, and the program in
// the image that the suite's pods run. It is a module apart from hack/control-plane, so
// that a change here compiles no control plane again. It is never built itself:
// hack/node.sh compiles each import.
package kubernetes

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "k8s.io/kubernetes/cmd/kubelet"
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
)
