// Package integration tests the provisioner as a process against a real etcd,
// kube-apiserver and kube-controller-manager, and a real CSI driver that can be
// told to misbehave. Each test ends with its books being checked; see package kit.
package integration

import (
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }
