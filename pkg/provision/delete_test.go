package provision_test

import (
	"errors"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// What is said of a PV before the driver is asked at all. (In these worlds there is no
// driver that could be.)
func TestDeletionsThatTheDriverIsNotAskedFor(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*world, *v1.PersistentVolume)
		ignored bool
		want    string
	}{
		{"a volume of another driver", func(_ *world, pv *v1.PersistentVolume) { pv.Spec.CSI.Driver = "other.example.com" },
			true, "the volume is of driver other.example.com"},
		{"a volume that is not CSI's", func(_ *world, pv *v1.PersistentVolume) {
			pv.Spec.PersistentVolumeSource = v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/x"}}
		}, false, `PV "pv-1" is not a CSI volume; it cannot be deleted by driver "clone.example.com"`},
		{"a driver that cannot delete", func(w *world, _ *v1.PersistentVolume) {
			w.controller = []csi.ControllerServiceCapability_RPC_Type{csi.ControllerServiceCapability_RPC_CLONE_VOLUME}
		}, false, `driver "clone.example.com" cannot delete volumes (no CREATE_DELETE_VOLUME capability); PV "pv-1" stays`},
		{"a volume that another PV has, too", func(w *world, pv *v1.PersistentVolume) {
			other := w.pv("pv-by-hand", w.source)
			other.UID, other.Spec.CSI.VolumeHandle = "uid-by-hand", pv.Spec.CSI.VolumeHandle
			w.pvs = append(w.pvs, other)
		}, false, `volume "handle-of-pv-1" of PV "pv-1" is also that of PV "pv-by-hand", which is Bound; it is deleted when that PV is gone, or is Released and to be deleted, too`},
		{"a volume that another PV has, which is to be kept", func(w *world, pv *v1.PersistentVolume) {
			other := w.pv("pv-by-hand", w.source)
			other.UID, other.Spec.CSI.VolumeHandle = "uid-by-hand", pv.Spec.CSI.VolumeHandle
			other.Status.Phase, other.Spec.PersistentVolumeReclaimPolicy = v1.VolumeReleased, v1.PersistentVolumeReclaimRetain
			w.pvs = append(w.pvs, other)
		}, false, `volume "handle-of-pv-1" of PV "pv-1" is also that of PV "pv-by-hand", which is Released; it is deleted when that PV is gone, or is Released and to be deleted, too`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fit()
			pv := w.pv("pv-1", w.claim)
			c.change(w, pv)
			err := w.provisioner(t).Delete(t.Context(), pv)
			var ignored *controller.IgnoredError
			text := ""
			if errors.As(err, &ignored) {
				text = ignored.Reason
			} else if err != nil {
				text = err.Error()
			}
			if (ignored != nil) != c.ignored || text != c.want {
				t.Errorf("got %v, ignored %t; want %s, %t", err, ignored != nil, c.want, c.ignored)
			}
		})
	}
}
