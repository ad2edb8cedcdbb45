// Package sanity runs csi-sanity, the conformance suite of the Kubernetes CSI
// community, against the demo driver. It is a module of its own to keep the
// suite's libraries out of the product:
//
//	cd hack/sanity && go test ./...
//
// It passes as root, where volumes are mounted, and as an ordinary user, where
// they are linked.
package sanity
