// Package integration tests the provisioner as a process against a real etcd,
// kube-apiserver and kube-controller-manager, and a real CSI driver that can be
// told to misbehave. Each test ends with its books being checked; see package kit.
package integration

import (
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// TestMain also looks, after a run of all tests, whether the manifests of RBAC grant
// what no test has made use of.
func TestMain(m *testing.M) { kit.MainWith(m, cluster.Options{AuditAccounts: true}) }
