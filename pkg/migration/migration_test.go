package migration_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const (
	ebs     = "ebs.csi.aws.com"
	gce     = "pd.csi.storage.gke.io"
	vsphere = "csi.vsphere.vmware.com"
	other   = "csi.example.com"
	inTree  = "kubernetes.io/aws-ebs"
)

func TestOf(t *testing.T) {
	for driver, want := range map[string]string{
		gce:                        "kubernetes.io/gce-pd",
		ebs:                        inTree,
		"cinder.csi.openstack.org": "kubernetes.io/cinder",
		"disk.csi.azure.com":       "kubernetes.io/azure-disk",
		"file.csi.azure.com":       "kubernetes.io/azure-file",
		vsphere:                    "kubernetes.io/vsphere-volume",
		"pxd.portworx.com":         "kubernetes.io/portworx-volume",
		other:                      "",
		inTree:                     "", // that is no CSI driver
		"":                         "",
	} {
		plugin := migration.Of(driver)
		if got := plugin.Name(); got != want || plugin == nil != (want == "") {
			t.Errorf("plugin of driver %q is %q, want %q", driver, got, want)
		}
		if got := plugin.Is(want); got != (want != "") {
			t.Errorf("Is(%q) of driver %q: %t", want, driver, got)
		}
	}
}

func TestGiven(t *testing.T) {
	const newer, older, to = wellknown.StorageProvisioner, wellknown.BetaStorageProvisioner, wellknown.MigratedTo
	for _, c := range []struct {
		name, driver string
		annotations  map[string]string
		want         bool
	}{
		{"to nobody", ebs, nil, false},
		{"to the plugin, and migrated", ebs, map[string]string{newer: inTree, to: ebs}, true},
		{"by the older annotation", ebs, map[string]string{older: inTree, to: ebs}, true},
		{"the newer annotation wins", ebs, map[string]string{newer: "kubernetes.io/gce-pd", older: inTree, to: ebs}, false},
		{"to the plugin, which was not migrated", ebs, map[string]string{newer: inTree}, false},
		{"to the plugin, and migrated to another driver", ebs, map[string]string{newer: inTree, to: gce}, false},
		{"to another plugin", ebs, map[string]string{newer: "kubernetes.io/gce-pd", to: gce}, false},
		{"to another plugin, with a contradiction", ebs, map[string]string{newer: "kubernetes.io/gce-pd", to: ebs}, false},
		{"the driver took over no plugin", other, map[string]string{newer: inTree, to: other}, false},
		{"nor one without a name", other, map[string]string{newer: "", to: other}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: c.annotations}}
			if got := migration.Of(c.driver).Given(claim); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func pv(source v1.PersistentVolumeSource) *v1.PersistentVolume {
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv", Annotations: map[string]string{wellknown.ProvisionedBy: inTree}},
		Spec:       v1.PersistentVolumeSpec{PersistentVolumeSource: source, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}},
	}
}

func csi(driver, handle string, attributes map[string]string) v1.PersistentVolumeSource {
	return v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle, VolumeAttributes: attributes}}
}

func ofEBS(id string) v1.PersistentVolumeSource {
	return v1.PersistentVolumeSource{AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{VolumeID: id, FSType: "xfs"}}
}

func TestToCSI(t *testing.T) {
	for _, c := range []struct {
		name, driver string
		pv           *v1.PersistentVolume
		has          bool
		// handle of the driver; empty if it stays what it is.
		handle string
		wrong  string
	}{
		{"none", ebs, nil, false, "", ""},
		{"one of the plugin", ebs, pv(ofEBS("vol-1")), true, "vol-1", ""},
		{"one of the plugin with a zone", ebs, pv(ofEBS("aws://us-east-1a/vol-1")), true, "vol-1", ""},
		{"one of the plugin that names no volume", ebs, pv(ofEBS("aws://us-east-1a/x/y")), true, "",
			`PV "pv" is one of in-tree plugin "kubernetes.io/aws-ebs", and cannot be translated for CSI driver "ebs.csi.aws.com": `},
		{"one of the driver", ebs, pv(csi(ebs, "vol-1", nil)), false, "", ""},
		{"one of another plugin", gce, pv(ofEBS("vol-1")), false, "", ""},
		{"the driver took over no plugin", other, pv(ofEBS("vol-1")), false, "", ""},
		{"one that no plugin has", ebs, pv(v1.PersistentVolumeSource{NFS: &v1.NFSVolumeSource{}}), false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			plugin, before := migration.Of(c.driver), c.pv.DeepCopy()
			if got := plugin.Has(c.pv); got != c.has {
				t.Errorf("has: %t", got)
			}
			got, err := plugin.ToCSI(c.pv)
			seen := plugin.Seen(c.pv)
			switch {
			case c.wrong != "":
				if err == nil || !strings.HasPrefix(err.Error(), c.wrong) {
					t.Errorf("error is %v, want %s...", err, c.wrong)
				}
				if seen != c.pv {
					t.Error("what is seen is not the PV itself")
				}
			case err != nil:
				t.Error(err)
			case c.handle == "" && (got != c.pv || seen != c.pv):
				t.Error("got another PV")
			case c.handle != "" && (got.Spec.CSI == nil || got.Spec.CSI.Driver != c.driver || got.Spec.CSI.VolumeHandle != c.handle || !reflect.DeepEqual(got, seen)):
				t.Errorf("got %+v, seen as %+v, want handle %q", got.Spec.PersistentVolumeSource, seen.Spec.PersistentVolumeSource, c.handle)
			case c.handle != "" && got.Annotations[wellknown.ProvisionedBy] != inTree:
				t.Errorf("annotations are %v", got.Annotations)
			}
			if !reflect.DeepEqual(c.pv, before) {
				t.Error("the PV was changed")
			}
		})
	}
}

func TestFromCSI(t *testing.T) {
	for _, c := range []struct {
		name, driver string
		source       v1.PersistentVolumeSource
		// back is the handle that is read back.
		back, wrong string
	}{
		{"as it is", ebs, csi(ebs, "vol-1", nil), "vol-1", ""},
		{"the project is lost", gce, csi(gce, "projects/p/zones/z/disks/d", nil), "projects/UNSPECIFIED/zones/UNSPECIFIED/disks/d", ""},
		{"known by a path", vsphere, csi(vsphere, "uuid", map[string]string{"initialvolumefilepath": "[ds] x.vmdk"}), "[ds] x.vmdk", ""},
		{"the path is missing", vsphere, csi(vsphere, "uuid", nil), "", "read back, it names no volume"},
		{"no partition", ebs, csi(ebs, "vol-1", map[string]string{"partition": "x"}), "", "failed to convert partition x"},
		{"a handle that the plugin cannot read", ebs, csi(ebs, "aws://vol-1", nil), "", "Invalid format"},
		{"no disk", gce, csi(gce, "d", nil), "", "d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plugin := migration.Of(c.driver)
			given := pv(c.source)
			before := given.DeepCopy()
			got, err := plugin.FromCSI(given)
			if !reflect.DeepEqual(given, before) {
				t.Error("the PV was changed")
			}
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), plugin.Name()) || !strings.Contains(err.Error(), before.Spec.CSI.VolumeHandle) {
					t.Errorf("error is %v, want one with %q, plugin and volume", err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !plugin.Has(got) {
				t.Errorf("not one of the plugin: %+v", got.Spec.PersistentVolumeSource)
			}
			if back := plugin.Seen(got).Spec.CSI; back == nil || back.VolumeHandle != c.back {
				t.Errorf("read back as %+v, want handle %q", back, c.back)
			}
		})
	}
}

// Whatever becomes of a handle in a PV of the plugin, its key stays.
func TestKey(t *testing.T) {
	for _, c := range []struct {
		driver string
		same   []string
	}{
		{other, []string{"vol-1"}},
		{ebs, []string{"vol-1"}},
		{ebs, []string{""}},
		{gce, []string{"projects/p/zones/z/disks/d", "projects/UNSPECIFIED/zones/z/disks/d", "projects/q/regions/r/disks/d"}},
		{gce, []string{"nonsense"}},
		{"file.csi.azure.com", []string{"group#account#share#pvc-1#shop", "group#account#share#pvc-1#other"}},
		{vsphere, []string{"uuid"}},
		{"pxd.portworx.com", []string{"123"}},
	} {
		plugin := migration.Of(c.driver)
		want := plugin.Key(c.same[0])
		for _, handle := range append(c.same, want) {
			if got := plugin.Key(handle); got != want {
				t.Errorf("driver %q: key of %q is %q, of %q it is %q", c.driver, handle, got, c.same[0], want)
			}
		}
		if plugin.Key("projects/p/zones/z/disks/other") == want {
			t.Errorf("driver %q: another volume has the key %q, too", c.driver, want)
		}
	}
}

func TestClass(t *testing.T) {
	zones := []v1.TopologySelectorTerm{{MatchLabelExpressions: []v1.TopologySelectorLabelRequirement{{Key: v1.LabelTopologyZone, Values: []string{"z"}}}}}
	for _, c := range []struct {
		name, driver, provisioner string
		parameters, want          map[string]string
		topologies                []v1.TopologySelectorTerm
		refused                   string
	}{
		{name: "one of the plugin", driver: ebs, provisioner: inTree,
			parameters: map[string]string{"fsType": "xfs", "type": "gp3"}, want: map[string]string{"csi.storage.k8s.io/fstype": "xfs", "type": "gp3"}},
		{name: "one of the driver", driver: ebs, provisioner: ebs,
			parameters: map[string]string{"fsType": "xfs", "zone": "z"}, want: map[string]string{"fsType": "xfs", "zone": "z"}, topologies: zones},
		{name: "one of another plugin", driver: gce, provisioner: inTree,
			parameters: map[string]string{"fsType": "xfs"}, want: map[string]string{"fsType": "xfs"}},
		{name: "the driver took over no plugin", driver: other, provisioner: inTree,
			parameters: map[string]string{"fsType": "xfs"}, want: map[string]string{"fsType": "xfs"}},
		{name: "zones twice", driver: ebs, provisioner: inTree,
			parameters: map[string]string{"zone": "z"}, topologies: zones,
			refused: `StorageClass "fast" is one of in-tree plugin "kubernetes.io/aws-ebs", and cannot be translated for CSI driver "ebs.csi.aws.com": cannot simultaneously set allowed topologies and zone/zones parameters; correct the class`},
		{name: "a parameter that the plugin reports in its log", driver: vsphere, provisioner: "kubernetes.io/vsphere-volume",
			parameters: map[string]string{"unknown": "x", "diskformat": "thin"}, want: map[string]string{"csimigration": "true", "diskformat-migrationparam": "thin"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			class := &storagev1.StorageClass{
				ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: c.provisioner, Parameters: c.parameters, AllowedTopologies: c.topologies,
			}
			before := class.DeepCopy()
			got, v := migration.Of(c.driver).Class(class)
			if !reflect.DeepEqual(class, before) {
				t.Error("the class was changed")
			}
			if c.refused != "" {
				if want := verdict.Refused(verdict.InvalidClass, "%s", c.refused); v != want {
					t.Errorf("verdict is %+v", v)
				}
				return
			}
			if !v.Ready() || !maps.Equal(got.Parameters, c.want) {
				t.Errorf("parameters are %v, verdict %+v", got.Parameters, v)
			}
		})
	}
	if class, v := migration.Of(ebs).Class(nil); class != nil || !v.Ready() {
		t.Errorf("of no class comes %v, %+v", class, v)
	}
}
