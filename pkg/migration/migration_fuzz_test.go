package migration_test

import (
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
)

// Whatever a driver answers: the PV of it is one of the plugin that can be read back, or
// there is an error; and the guards find it by the driver's handle.
func FuzzFromCSI(f *testing.F) {
	for _, seed := range []struct{ driver, handle, key, value string }{
		{ebs, "vol-1", "partition", "1"},
		{ebs, "aws://us-east-1a/vol-1", "partition", "x"},
		{gce, "projects/p/zones/z/disks/d", "", ""},
		{gce, "projects/p/regions/r/disks/d", "partition", ""},
		{"cinder.csi.openstack.org", "1", "", ""},
		{"disk.csi.azure.com", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d", "cachingMode", "None"},
		{"disk.csi.azure.com", "https://account.blob.core.windows.net/vhds/d.vhd", "kind", "dedicated"},
		{"file.csi.azure.com", "group#account#share#d#ns", "secretname", "s"},
		{"file.csi.azure.com", "##", "sharename", ""},
		{vsphere, "1", "initialvolumefilepath", "[store] d.vmdk"},
		{"pxd.portworx.com", "1", "", ""},
	} {
		f.Add(seed.driver, seed.handle, seed.key, seed.value)
	}
	f.Fuzz(func(t *testing.T, driver, handle, key, value string) {
		plugin := migration.Of(driver)
		if plugin == nil {
			return
		}
		made := pv(csi(driver, handle, map[string]string{key: value}))
		got, err := plugin.FromCSI(made)
		if err != nil {
			return
		}
		if !plugin.Has(got) {
			t.Errorf("not one of the plugin: %+v", got.Spec.PersistentVolumeSource)
		}
		back, err := plugin.ToCSI(got)
		if err != nil || back.Spec.CSI.VolumeHandle == "" {
			t.Fatalf("cannot be read back: %+v, %v", got.Spec.PersistentVolumeSource, err)
		}
		// A volume_context may make a volume of vSphere or Azure known by something that the
		// handle does not tell.
		if again := back.Spec.CSI.VolumeHandle; key == "" && plugin.Key(again) != plugin.Key(handle) {
			t.Errorf("volume %q, read back as %q, has the keys %q and %q", handle, again, plugin.Key(handle), plugin.Key(again))
		}
	})
}
