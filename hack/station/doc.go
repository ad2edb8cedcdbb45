// Package station starts everything that pods with volumes need, in a sandbox: control
// plane, node, the demo CSI driver as a plugin of the node, the provisioner with the
// rights of its manifests, and csi-snapshotter. The demo, make node and make e2e use it.
package station
