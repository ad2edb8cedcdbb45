package provision

import (
	"errors"
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
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// abroad returns a provisioner without any grant, and a clone on record of the
// claim "db" of the namespace.
func abroad(t *testing.T, namespace string) (*Provisioner, *v1.PersistentVolumeClaim) {
	t.Helper()
	const driver = "clone.example.com"
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://nowhere.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	none := func(*v1.PersistentVolumeClaim) string { return "" }
	caches, err := informers.New(client, driver, informers.Keys{CloneSource: none, VolumeName: none}, informers.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	db := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "db", UID: "uid-db"}}
	db.Spec.VolumeName = "pv-db"
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-db"}}
	pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "vol-db"}
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: driver}
	err = errors.Join(caches.Claims.GetStore().Add(db), caches.PVs.GetStore().Add(pv), caches.Classes.GetStore().Add(class))
	if err != nil {
		t.Fatal(err)
	}
	keys := wellknown.RecordOf(driver)
	clone := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy", UID: "uid-copy", Finalizers: []string{keys.Finalizer}}}
	clone.Spec = v1.PersistentVolumeClaimSpec{
		AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, StorageClassName: new("fast"),
		Resources:     v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
		DataSourceRef: &v1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "db", Namespace: &namespace},
	}
	return New(Config{
		Client: client, Caches: caches, Keys: keys, OtherNamespaces: true,
		Driver: &csidriver.Driver{
			Name:       driver,
			Plugin:     map[csi.PluginCapability_Service_Type]bool{csi.PluginCapability_Service_CONTROLLER_SERVICE: true},
			Controller: map[csi.ControllerServiceCapability_RPC_Type]bool{csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME: true},
		},
		Ledger: ledger.New(time.Second, clock.RealClock{}),
		Naming: record.Naming{Prefix: "pvc", UUIDLength: -1},
	}), clone
}

// Whoever can write a record must not have the driver read the volume of another
// namespace by deleting the claim: to clean up, the record is enough to get a call.
func TestLastRequest(t *testing.T) {
	for _, c := range []struct {
		name, namespace string
		do              func(*ledger.Ledger, types.UID)
		unproven        bool
	}{
		{"a source of the claim's namespace", "shop", func(*ledger.Ledger, types.UID) {}, false},
		{"one of another namespace, without a grant", "vault", func(*ledger.Ledger, types.UID) {}, true},
		{"one that the rules let this process use", "vault", (*ledger.Ledger).Vouch, false},
		{"one of the claim's namespace that the rules do not let it use", "shop", (*ledger.Ledger).Doubt, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, clone := abroad(t, c.namespace)
			turn, _ := p.Ledger.Take(clone.UID)
			defer turn.Done()
			c.do(p.Ledger, clone.UID)
			req, unproven, err := p.lastRequest(turn, clone)
			if err != nil {
				t.Fatal(err)
			}
			if got := req.GetVolumeContentSource().GetVolume().GetVolumeId(); got != "vol-db" {
				t.Errorf("the request would copy %q", got)
			}
			if unproven != c.unproven || p.Needs(clone) == c.unproven {
				t.Errorf("unproven: %t, needed: %t", unproven, p.Needs(clone))
			}
		})
	}
}
