package provision_test

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/provision"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const (
	driver = "clone.example.com"
	uid    = "0d6b1d2e-7c5e-4f0a-9c55-1f1c6e7a0001"
)

// world is two claims, and what the caches and the driver have.
type world struct {
	claim      *v1.PersistentVolumeClaim
	source     *v1.PersistentVolumeClaim
	pvs        []*v1.PersistentVolume
	plugin     []csi.PluginCapability_Service_Type
	controller []csi.ControllerServiceCapability_RPC_Type
}

// fit is a world in which volumes can be made and deleted.
func fit() *world {
	return &world{
		source:     &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "uid-db"}},
		claim:      &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy", UID: uid, Annotations: map[string]string{}}},
		plugin:     []csi.PluginCapability_Service_Type{csi.PluginCapability_Service_CONTROLLER_SERVICE},
		controller: []csi.ControllerServiceCapability_RPC_Type{csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csi.ControllerServiceCapability_RPC_CLONE_VOLUME},
	}
}

// pv returns a bound PV of the claim as this driver makes them.
func (w *world) pv(name string, claim *v1.PersistentVolumeClaim) *v1.PersistentVolume {
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{wellknown.ProvisionedBy: driver}},
		Spec: v1.PersistentVolumeSpec{
			ClaimRef: &v1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				CSI: &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "handle-of-" + name},
			},
		},
		Status: v1.PersistentVolumeStatus{Phase: v1.VolumeBound},
	}
}

// onRecord puts the record on the claim.
func (w *world) onRecord() {
	w.claim.Finalizers = append(w.claim.Finalizers, wellknown.RecordOf(driver).Finalizer)
}

// provisioner returns one whose caches hold the world.
func (w *world) provisioner(t *testing.T) *provision.Provisioner {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://nowhere.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	none := func(*v1.PersistentVolumeClaim) string { return "" }
	caches, err := informers.New(client, driver, informers.Keys{CloneSource: none, Snapshot: none, VolumeName: none}, informers.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pv := range w.pvs {
		if err := caches.PVs.GetStore().Add(pv); err != nil {
			t.Fatal(err)
		}
	}
	d := &csidriver.Driver{
		Name:       driver,
		Plugin:     map[csi.PluginCapability_Service_Type]bool{},
		Controller: map[csi.ControllerServiceCapability_RPC_Type]bool{},
	}
	for _, capability := range w.plugin {
		d.Plugin[capability] = true
	}
	for _, capability := range w.controller {
		d.Controller[capability] = true
	}
	keys, known := wellknown.RecordOf(driver), ledger.New(10*time.Second, clock.RealClock{})
	plan := planner.New(planner.Config{
		Client: client, Caches: caches, Driver: d, Keys: keys, Ledger: known, Naming: record.Naming{Prefix: "pvc", UUIDLength: -1},
	})
	return provision.New(provision.Config{Client: client, Caches: caches, Driver: d, Keys: keys, Ledger: known, Planner: plan})
}

func TestShouldProvision(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world)
		// then is done to the claim's turn.
		then func(*ledger.Turn)
		want bool
	}{
		{"a claim that is not on record", func(*world) {}, nil, false},
		{"a claim on record for which nobody vouches", func(w *world) { w.onRecord() }, nil, false},
		{"a claim on record", func(w *world) { w.onRecord() }, (*ledger.Turn).Recording, true},
		{"a claim that this process works on without a record", func(*world) {}, (*ledger.Turn).Admitting, true},
		{"a deleted claim", func(w *world) {
			w.onRecord()
			w.claim.DeletionTimestamp = new(metav1.NewTime(time.Unix(1_800_000_000, 0)))
		}, nil, false},
		{"a claim whose PV is saved", func(w *world) { w.onRecord() }, (*ledger.Turn).Saved, false},
		{"a claim that is released", func(w *world) { w.onRecord() }, (*ledger.Turn).Close, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fit()
			c.change(w)
			p := w.provisioner(t)
			if c.then != nil {
				turn, _ := p.Ledger.Take(w.claim.UID)
				c.then(turn)
				turn.Done()
			}
			if got := p.ShouldProvision(t.Context(), w.claim); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// The engine comes back for a claim whose turn is taken: who has it is told.
func TestShouldProvisionDuringATurn(t *testing.T) {
	w := fit()
	w.onRecord()
	p := w.provisioner(t)
	p.Ledger.Vouch(w.claim.UID)
	turn, _ := p.Ledger.Take(w.claim.UID)
	if p.ShouldProvision(t.Context(), w.claim) {
		t.Error("the engine may work on a claim that somebody else works on")
	}
	if !turn.Done() {
		t.Error("nobody wakes the engine")
	}
	if !p.ShouldProvision(t.Context(), w.claim) {
		t.Error("the turn is free, but the engine may not work")
	}
}

func TestSupportsBlock(t *testing.T) {
	if !fit().provisioner(t).SupportsBlock(t.Context()) {
		t.Error("block volumes are refused before the driver is asked")
	}
}
