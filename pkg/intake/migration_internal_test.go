package intake

import (
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

func TestClaimsOfAPluginThatTheDriverTookOver(t *testing.T) {
	const ebs, inTree = "ebs.csi.aws.com", "kubernetes.io/aws-ebs"
	for _, c := range []struct {
		name, driver string
		annotations  map[string]string
		want         bool
	}{
		{"given to the driver", ebs, map[string]string{wellknown.StorageProvisioner: ebs}, true},
		{"given to the plugin, and migrated", ebs, map[string]string{wellknown.StorageProvisioner: inTree, wellknown.MigratedTo: ebs}, true},
		{"given to the plugin, and not migrated", ebs, map[string]string{wellknown.StorageProvisioner: inTree}, false},
		{"given to another, with a contradiction", ebs, map[string]string{wellknown.StorageProvisioner: "other", wellknown.MigratedTo: ebs}, false},
		{"the driver took over no plugin", driver, map[string]string{wellknown.StorageProvisioner: inTree, wellknown.MigratedTo: driver}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pvc := claim("1")
			pvc.Annotations = c.annotations
			i := forTest(t, Config{Driver: c.driver, Keys: wellknown.RecordOf(c.driver), Migration: migration.Of(c.driver)})
			if got := i.given(pvc); got != c.want {
				t.Errorf("given: %t", got)
			}
			if got := i.mine(pvc); got != c.want {
				t.Errorf("mine: %t", got)
			}
		})
	}
}
