// Package cluster starts and stops a Kubernetes control plane for development:
// real etcd, kube-apiserver and kube-controller-manager on loopback ports, with
// certificates and RBAC, and if asked kube-scheduler and the snapshot controller.
// There are no nodes.
//
// The programs come from the folder hack/control-plane.sh builds. Each cluster
// has its own ports, certificate authority and folder, so several run side by
// side. Stop ends every process and removes the folder; a cluster whose owner
// was killed loses its processes through the kernel and its folder through the
// next cluster that starts.
//
// Package kit starts one for each package of integration tests, hack/demo one
// for the demo.
package cluster
