package intake

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// nodes notes what it is told; every claim is another node's.
type nodes struct{ watched, dropped int }

func (*nodes) Elsewhere(*v1.PersistentVolumeClaim) bool { return true }

func (*nodes) Open(*v1.PersistentVolumeClaim) (bool, verdict.Verdict) {
	return false, verdict.Verdict{}
}
func (*nodes) Bid(*v1.PersistentVolumeClaim, *csi.CreateVolumeRequest) {}
func (n *nodes) Watch(*v1.PersistentVolumeClaim)                       { n.watched++ }
func (n *nodes) Drop(string, string, types.UID)                        { n.dropped++ }

// unheld is a Protector of nothing.
type unheld struct{ Protector }

func (unheld) Unhold(types.UID)      {}
func (unheld) Reconsider(source.Ref) {}

// A claim that is another node's is let go; what was begun for it, by a record that somebody
// has taken off, is undone.
func TestAside(t *testing.T) {
	for _, c := range []struct {
		name             string
		begun, given     bool
		undone           int
		watched, dropped int
	}{
		{"another node's", false, true, 0, 1, 0},
		{"another driver's by now", false, false, 0, 0, 1},
		{"one that we had begun with", true, true, 1, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &nodes{}
			i := forTest(t, Config{
				Driver: driver, Keys: wellknown.RecordOf(driver).OnNode("here"), Nodes: n, Protector: unheld{},
				Ledger: ledger.New(time.Second, clock.RealClock{}),
			})
			pvc := claim("1")
			if c.given {
				pvc.Annotations = map[string]string{wellknown.StorageProvisioner: driver}
			}
			k := keyOf(pvc)
			if c.begun {
				turn, _ := i.Ledger.Take(pvc.UID)
				turn.CallingWith(&csi.CreateVolumeRequest{Name: "pvc-1"}, ledger.Beside{})
				turn.Done()
			}
			i.waiting.Add(k, waitlist.Claim("shop", "db"))
			i.aside(k, pvc)
			if i.waiting.Len() != 0 || i.dirty.Len() != c.undone || n.watched != c.watched || n.dropped != c.dropped {
				t.Errorf("%d wait, %d are undone, watched %d, dropped %d", i.waiting.Len(), i.dirty.Len(), n.watched, n.dropped)
			}
		})
	}
}
