package informers

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const (
	gce       = "pd.csi.storage.gke.io"
	gceInTree = "kubernetes.io/gce-pd"
)

// gcePV returns a PV of the plugin, with the disk's zone if it has one.
func gcePV(name, disk, zone string) *v1.PersistentVolume {
	pv := volumeOf(name, "", "")
	pv.Spec.CSI = nil
	pv.Spec.GCEPersistentDisk = &v1.GCEPersistentDiskVolumeSource{PDName: disk}
	if zone != "" {
		pv.Labels = map[string]string{v1.LabelTopologyZone: zone}
	}
	return pv
}

// migrated returns a Set of the driver with the PVs.
func migrated(t *testing.T, driver string, pvs ...*v1.PersistentVolume) *Set {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://nowhere.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	none := func(*v1.PersistentVolumeClaim) string { return "" }
	wanted := Wanted{}
	if plugin := migration.Of(driver); plugin != nil {
		wanted.InTree = plugin
	}
	s, err := New(client, driver, Keys{CloneSource: none, Snapshot: none, VolumeName: none}, wanted)
	if err != nil {
		t.Fatal(err)
	}
	for _, pv := range pvs {
		if err := s.PVs.GetStore().Add(pv); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// The look-ups show PVs of the plugin as those of the driver, the informers as they are.
func TestPVsOfAPluginAreSeenAsTheDrivers(t *testing.T) {
	zonal, bare, other := gcePV("zonal", "a", "z"), gcePV("bare", "b", ""), volumeOf("other", gce, "projects/p/zones/z/disks/c")
	s := migrated(t, gce, zonal, bare, other)
	if got := s.PV("zonal"); got.Spec.CSI == nil || got.Spec.CSI.Driver != gce || got.Spec.CSI.VolumeHandle != "projects/UNSPECIFIED/zones/z/disks/a" {
		t.Errorf("the PV is seen as %+v", got.Spec.PersistentVolumeSource)
	}
	if s.PV("nobody") != nil {
		t.Error("a PV is seen that is not there")
	}
	for _, pv := range s.OwnVolumes() {
		if pv.Spec.CSI == nil || pv.Spec.CSI.Driver != gce {
			t.Errorf("PV %q is seen as %+v", pv.Name, pv.Spec.PersistentVolumeSource)
		}
	}
	if got, found, err := s.OwnPVs.GetStore().GetByKey("zonal"); got != any(zonal) || !found || err != nil {
		t.Errorf("the engine gets %v, %t, %v", got, found, err)
	}
	for _, c := range []struct {
		handle       string
		own, perhaps []string
	}{
		{"projects/UNSPECIFIED/zones/z/disks/a", []string{"zonal"}, []string{"zonal"}},
		{"projects/p/zones/z/disks/a", []string{}, []string{"zonal"}},
		{"projects/p/zones/z/disks/b", []string{}, []string{"bare"}},
		{"projects/p/zones/z/disks/c", []string{"other"}, []string{"other"}},
		{"projects/q/zones/z/disks/c", []string{}, []string{}},
		{"projects/p/zones/z/disks/d", []string{}, []string{}},
	} {
		perhaps := names(s.PVsPerhapsOfHandle(c.handle))
		if own := names(s.PVsOfHandle(c.handle)); !slices.Equal(own, c.own) || !slices.Equal(slices.Compact(perhaps), c.perhaps) {
			t.Errorf("handle %q is that of %v, perhaps of %v, want %v and %v", c.handle, own, perhaps, c.own, c.perhaps)
		}
	}
}

func TestADriverWithoutAPluginSeesPVsAsTheyAre(t *testing.T) {
	pv := gcePV("zonal", "a", "z")
	s := migrated(t, driver, pv, volumeOf("own", driver, "vol-1"))
	if s.PV("zonal") != pv {
		t.Error("the PV was replaced")
	}
	if got := names(s.PVsPerhapsOfHandle("vol-1")); !slices.Equal(got, []string{"own"}) {
		t.Errorf("handle found at %v", got)
	}
	if _, found := s.PVs.GetIndexer().GetIndexers()[byKey]; found {
		t.Error("there is an index for what cannot be")
	}
}

// What belongs to the plugin is not packed, as what belongs to the driver is not.
func TestWhatIsOfThePluginIsKeptWhole(t *testing.T) {
	annotate := func(object metav1.Object, key, value string) metav1.Object {
		object.SetAnnotations(map[string]string{key: value})
		return object
	}
	for name, c := range map[string]struct {
		object metav1.Object
		ofGCE  bool
	}{
		"a PV of the plugin":                      {gcePV("a", "a", ""), true},
		"a PV that the plugin made":               {annotate(foreignVolume(), wellknown.ProvisionedBy, gceInTree), true},
		"a claim that was given to the plugin":    {annotate(foreignClaim(), wellknown.StorageProvisioner, gceInTree), true},
		"a claim that was given to it long ago":   {annotate(foreignClaim(), wellknown.BetaStorageProvisioner, gceInTree), true},
		"a claim that was given to another":       {annotate(foreignClaim(), wellknown.StorageProvisioner, "kubernetes.io/aws-ebs"), false},
		"a claim that nobody was given":           {foreignClaim(), false},
		"a PV of another plugin":                  {annotate(foreignVolume(), wellknown.ProvisionedBy, "kubernetes.io/aws-ebs"), false},
		"a PV that a person made for no provider": {foreignVolume(), false},
	} {
		for _, packer := range []struct {
			driver string
			inTree InTree
			whole  bool
		}{
			{gce, migration.Of(gce), c.ofGCE},
			{driver, noInTree{}, false},
		} {
			got, err := newPacker(packer.driver, packer.inTree).transform(c.object)
			if err != nil {
				t.Fatal(err)
			}
			if _, foreign := got.(*packed); foreign == packer.whole {
				t.Errorf("%s, for driver %q: packed %t", name, packer.driver, foreign)
			}
		}
	}
}
