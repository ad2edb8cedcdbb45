package provision

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const (
	ebs       = "ebs.csi.aws.com"
	ebsInTree = "kubernetes.io/aws-ebs"
)

func ebsPV(name, volume string) *v1.PersistentVolume {
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{wellknown.ProvisionedBy: ebsInTree}},
		Spec: v1.PersistentVolumeSpec{
			StorageClassName: "old", Capacity: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
			ClaimRef:               &v1.ObjectReference{Namespace: "shop", Name: "db", UID: "uid-db"},
			PersistentVolumeSource: v1.PersistentVolumeSource{AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{VolumeID: volume}},
		},
		Status: v1.PersistentVolumeStatus{Phase: v1.VolumeBound},
	}
}

func ebsClaim(name string) *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name)},
		Spec: v1.PersistentVolumeClaimSpec{
			AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, StorageClassName: new("old"),
			Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

// ebsProvisioner returns one of a driver that took over a plugin, whose caches hold the
// class "old" of the plugin and the claim "db", bound to a PV of it.
func ebsProvisioner(t *testing.T, parameters map[string]string, topologies ...v1.TopologySelectorTerm) *Provisioner {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://nowhere.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	none := func(*v1.PersistentVolumeClaim) string { return "" }
	plugin := migration.Of(ebs)
	caches, err := informers.New(client, ebs, informers.Keys{CloneSource: none, Snapshot: none, VolumeName: none}, informers.Wanted{InTree: plugin})
	if err != nil {
		t.Fatal(err)
	}
	db := ebsClaim("db")
	db.Spec.VolumeName, db.Status.Phase = "pv-db", v1.ClaimBound
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "old"}, Provisioner: ebsInTree, Parameters: parameters,
		MountOptions: []string{"noatime"}, AllowedTopologies: topologies,
	}
	for _, err := range []error{
		caches.Claims.GetStore().Add(db), caches.PVs.GetStore().Add(ebsPV("pv-db", "aws://us-east-1a/vol-1")), caches.Classes.GetStore().Add(class),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d := &csidriver.Driver{
		Name:   ebs,
		Plugin: map[csi.PluginCapability_Service_Type]bool{csi.PluginCapability_Service_CONTROLLER_SERVICE: true},
		Controller: map[csi.ControllerServiceCapability_RPC_Type]bool{
			csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME: true, csi.ControllerServiceCapability_RPC_CLONE_VOLUME: true,
		},
	}
	keys, known := wellknown.RecordOf(ebs), ledger.New(10*time.Second, clock.RealClock{})
	plan := planner.New(planner.Config{
		Client: client, Caches: caches, Migration: plugin, Keys: keys, Driver: d, Ledger: known, Naming: record.Naming{Prefix: "pvc", UUIDLength: -1},
	})
	return New(Config{Client: client, Caches: caches, Migration: plugin, Keys: keys, Driver: d, Ledger: known, Planner: plan})
}

// A clone in a class of the plugin, of a volume with a PV of the plugin: the incumbent
// refuses it.
func TestPlanInAClassOfAPlugin(t *testing.T) {
	p := ebsProvisioner(t, map[string]string{"fstype": "xfs", "type": "gp3"})
	claim := ebsClaim("copy")
	claim.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "db"}
	plan, v := p.Planner.Plan(claim, false, nil)
	if !v.Ready() {
		t.Fatalf("verdict is %+v", v)
	}
	req := plan.Request
	if plan.Class.Provisioner != ebsInTree || !maps.Equal(plan.Class.Parameters, map[string]string{"fstype": "xfs", "type": "gp3"}) {
		t.Errorf("the plan's class is not the one in the API: %+v", plan.Class)
	}
	if !maps.Equal(req.GetParameters(), map[string]string{"type": "gp3"}) || req.GetVolumeCapabilities()[0].GetMount().GetFsType() != "xfs" ||
		req.GetVolumeContentSource().GetVolume().GetVolumeId() != "vol-1" {
		t.Errorf("request is %v", req)
	}
}

func TestPlanInAClassThatCannotBeTranslated(t *testing.T) {
	p := ebsProvisioner(t, map[string]string{"zone": "z"},
		v1.TopologySelectorTerm{MatchLabelExpressions: []v1.TopologySelectorLabelRequirement{{Key: v1.LabelTopologyZone, Values: []string{"z"}}}})
	if _, v := p.Planner.Plan(ebsClaim("data"), false, nil); v.Kind != verdict.Refuse || v.Reason != verdict.InvalidClass || !strings.HasPrefix(v.Message, `StorageClass "old" is one of in-tree plugin`) {
		t.Errorf("verdict is %+v", v)
	}
	if _, v := p.classFor(ebsPV("pv", "vol-1")); v.Reason != verdict.InvalidClass {
		t.Errorf("verdict on a deletion is %+v", v)
	}
}

// A PV that does not name its Secret is deleted with that of its class, translated.
func TestTheSecretOfAClassOfAPlugin(t *testing.T) {
	p := ebsProvisioner(t, map[string]string{"csi.storage.k8s.io/provisioner-secret-name": "creds", "csi.storage.k8s.io/provisioner-secret-namespace": "vault"})
	class, v := p.classFor(ebsPV("pv", "vol-1"))
	if !v.Ready() {
		t.Fatalf("verdict is %+v", v)
	}
	if ref, v := secret.OfClass(ebsPV("pv", "vol-1"), class, nil); ref.String() != "vault/creds" || !v.Ready() {
		t.Errorf("the Secret is %q, %+v", ref, v)
	}
}

// What cannot be translated is not deleted, and the PV says why.
func TestDeleteOfAPVThatCannotBeTranslated(t *testing.T) {
	err := ebsProvisioner(t, nil).Delete(t.Context(), ebsPV("pv", "aws://nothing"))
	if err == nil || !strings.HasPrefix(err.Error(), `PV "pv" is one of in-tree plugin "kubernetes.io/aws-ebs", and cannot be translated for CSI driver "ebs.csi.aws.com": `) {
		t.Errorf("error is %v", err)
	}
}

func TestMayUseOfAPlugin(t *testing.T) {
	p := ebsProvisioner(t, nil)
	byHand := func(volume string) *v1.PersistentVolume {
		pv := ebsPV("pv", volume)
		pv.Annotations = nil
		return pv
	}
	for name, c := range map[string]struct {
		pv   *v1.PersistentVolume
		want bool
	}{
		"the volume's own PV":                     {ebsPV("pv", "vol-1"), true},
		"one that was provisioned, and says less": {ebsPV("pv", "vol-2"), true},
		"one that a person made for the volume":   {byHand("aws://us-east-1a/vol-1"), true},
		"one that a person made for another":      {byHand("vol-2"), false},
		"one that cannot be read":                 {byHand("aws://nothing"), false},
	} {
		if got := p.mayUse(c.pv, "vol-1"); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAsSaved(t *testing.T) {
	p := ebsProvisioner(t, nil)
	built := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{PersistentVolumeSource: v1.PersistentVolumeSource{
		CSI: &v1.CSIPersistentVolumeSource{Driver: ebs, VolumeHandle: "vol-1"},
	}}}
	if got, err := p.asSaved(&storagev1.StorageClass{Provisioner: ebs}, built); got != built || err != nil {
		t.Errorf("in a class of the driver: %+v, %v", got, err)
	}
	got, err := p.asSaved(&storagev1.StorageClass{Provisioner: ebsInTree}, built)
	if err != nil || got.Spec.CSI != nil || got.Spec.AWSElasticBlockStore == nil || got.Spec.AWSElasticBlockStore.VolumeID != "vol-1" {
		t.Errorf("in a class of the plugin: %+v, %v", got, err)
	}
}
