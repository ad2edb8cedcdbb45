// Package bench measures the provisioner on a control plane of its own: how long
// claims take, what that costs, and what it would cost at least. There is no pass
// or fail by the clock, only figures; what makes a test fail is a claim that is
// never bound, a volume that is left behind or a set-up that does not work.
//
// The driver answers from memory, after a while (package stub), so that the
// provisioner is what is measured.
package bench

import (
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// TestMain has the API server note every request: how many there are is one of the
// figures.
func TestMain(m *testing.M) { kit.MainWith(m, cluster.Options{AuditLog: true}) }
