// Package node joins one node to a development control plane: containerd with runc, a
// bridge for the pods, and a kubelet. Pods run for real, from images that are made on the
// spot out of what hack/node.sh has built; nothing is pulled, and the bridge has no way
// out.
//
// It must run in a sandbox (package sandbox), which is also what takes everything away
// again: nothing here is undone one by one.
package node
