// Package registration announces a CSI driver to the kubelet of its node: it serves the
// kubelet's registration service on a socket in the kubelet's folder for plugins, as the
// sidecar node-driver-registrar does for drivers that ship.
package registration
