package provision

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// A volume must neither be deleted while its PV may use it, nor be lost because its
// PV's name is taken.
func TestMayUse(t *testing.T) {
	const driver = "clone.example.com"
	csi := func(driver, handle string) v1.PersistentVolumeSource {
		return v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}}
	}
	host := v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/data"}}
	provisioned := map[string]string{wellknown.ProvisionedBy: "somebody"}
	for _, c := range []struct {
		name        string
		source      v1.PersistentVolumeSource
		annotations map[string]string
		want        bool
	}{
		{"the volume's own PV", csi(driver, "vol-1"), provisioned, true},
		{"a PV that a person made for the volume", csi(driver, "vol-1"), nil, true},
		{"another volume of the driver", csi(driver, "vol-2"), provisioned, false},
		{"a volume of another driver", csi("other", "vol-1"), provisioned, false},
		{"a volume of no driver that a person made", host, nil, false},
		{"a volume of no driver that was provisioned", host, provisioned, true},
	} {
		p := New(Config{Driver: &csidriver.Driver{Name: driver}})
		pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{PersistentVolumeSource: c.source}}
		pv.Annotations = c.annotations
		if got := p.mayUse(pv, "vol-1"); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
