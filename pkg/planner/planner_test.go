package planner_test

import (
	"slices"
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
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const (
	driver = "clone.example.com"
	uid    = "0d6b1d2e-7c5e-4f0a-9c55-1f1c6e7a0001"
)

// world is what the caches hold.
type world struct {
	claim, source *v1.PersistentVolumeClaim
	class         *storagev1.StorageClass
	// pvs: the source's, and what else a test puts there.
	pvs []*v1.PersistentVolume
	// plugin and controller capabilities of the driver.
	plugin     []csi.PluginCapability_Service_Type
	controller []csi.ControllerServiceCapability_RPC_Type
}

// fit is a world in which the clone "copy" of the claim "db" can be made.
func fit() *world {
	size := v1.ResourceList{v1.ResourceStorage: resource.MustParse("10Gi")}
	claim := func(name, uid string) *v1.PersistentVolumeClaim {
		return &v1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid), Annotations: map[string]string{}},
			Spec: v1.PersistentVolumeClaimSpec{
				AccessModes:      []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
				StorageClassName: new("fast"),
				Resources:        v1.VolumeResourceRequirements{Requests: size.DeepCopy()},
			},
		}
	}
	w := &world{
		claim: claim("copy", uid), source: claim("db", "uid-db"),
		class:      &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: driver},
		plugin:     []csi.PluginCapability_Service_Type{csi.PluginCapability_Service_CONTROLLER_SERVICE},
		controller: []csi.ControllerServiceCapability_RPC_Type{csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csi.ControllerServiceCapability_RPC_CLONE_VOLUME},
	}
	w.claim.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "db"}
	w.source.Spec.VolumeName, w.source.Status.Phase = "pv-db", v1.ClaimBound
	w.pvs = append(w.pvs, w.pv("pv-db", w.source))
	return w
}

// pv returns a bound PV of the claim as this driver makes them.
func (w *world) pv(name string, claim *v1.PersistentVolumeClaim) *v1.PersistentVolume {
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{wellknown.ProvisionedBy: driver}},
		Spec: v1.PersistentVolumeSpec{
			Capacity: v1.ResourceList{v1.ResourceStorage: resource.MustParse("12Gi")},
			ClaimRef: &v1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				CSI: &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "handle-of-" + name},
			},
		},
		Status: v1.PersistentVolumeStatus{Phase: v1.VolumeBound},
	}
}

// onRecord puts the record on the claim, with the pins.
func (w *world) onRecord(name, bytes string) {
	keys := wellknown.RecordOf(driver)
	w.claim.Finalizers = append(w.claim.Finalizers, keys.Finalizer)
	w.claim.Annotations[keys.VolumeName], w.claim.Annotations[keys.RequiredBytes] = name, bytes
}

// planner returns one whose caches hold the world.
func (w *world) planner(t *testing.T) *planner.Planner {
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
	add := func(store interface{ Add(any) error }, object any) {
		if err := store.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	add(caches.Claims.GetStore(), w.claim)
	if w.source != nil {
		add(caches.Claims.GetStore(), w.source)
	}
	if w.class != nil {
		add(caches.Classes.GetStore(), w.class)
	}
	for _, pv := range w.pvs {
		add(caches.PVs.GetStore(), pv)
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
	return planner.New(planner.Config{
		Client: client, Caches: caches, Driver: d, Keys: wellknown.RecordOf(driver),
		Ledger: ledger.New(10*time.Second, clock.RealClock{}),
		Naming: record.Naming{Prefix: "pvc", UUIDLength: -1},
	})
}

func TestVolumeName(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world)
		want   string
	}{
		{"a claim that is not on record is named by the flags", func(*world) {}, "pvc-" + uid},
		{"the pinned name outlives a change of the flags", func(w *world) { w.onRecord("old-"+uid, "") }, "old-" + uid},
		{"a pin that cannot be ours is not believed", func(w *world) { w.onRecord("pvc-of-another", "") }, "pvc-" + uid},
		{"a pin without the record is not believed", func(w *world) { w.onRecord("old-"+uid, ""); w.claim.Finalizers = nil }, "pvc-" + uid},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fit()
			c.change(w)
			if got := w.planner(t).VolumeName(w.claim); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestClassName(t *testing.T) {
	for _, c := range []struct {
		name        string
		field       *string
		annotations map[string]string
		want        string
	}{
		{"the field names the class", new("fast"), nil, "fast"},
		{"the annotation of old beats the field", new("fast"), map[string]string{"volume.beta.kubernetes.io/storage-class": "slow"}, "slow"},
		{"even if it is empty", new("fast"), map[string]string{"volume.beta.kubernetes.io/storage-class": ""}, ""},
		{"neither is no class", nil, map[string]string{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: c.annotations}}
			claim.Spec.StorageClassName = c.field
			if got := source.ClassName(claim); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPlan(t *testing.T) {
	w := fit()
	w.class.Parameters = map[string]string{"pool": "ssd"}
	plan, v := w.planner(t).Plan(w.claim, false, nil)
	if v != (verdict.Verdict{}) {
		t.Fatalf("got %+v", v)
	}
	req := plan.Request
	if plan.Class != w.class || plan.Source != w.source {
		t.Errorf("class %v, source %v", plan.Class, plan.Source)
	}
	if req.GetName() != "pvc-"+uid || req.GetCapacityRange().GetRequiredBytes() != 12<<30 ||
		req.GetVolumeContentSource().GetVolume().GetVolumeId() != "handle-of-pv-db" || req.GetParameters()["pool"] != "ssd" {
		t.Errorf("request %v", req)
	}
}

func TestPlanOfABlankClaim(t *testing.T) {
	w := fit()
	w.claim.Spec.DataSource, w.source, w.controller = nil, nil, w.controller[:1]
	plan, v := w.planner(t).Plan(w.claim, false, nil)
	if v != (verdict.Verdict{}) || plan.Source != nil || plan.Request.GetVolumeContentSource() != nil {
		t.Errorf("got %+v and %+v", plan, v)
	}
}

// A claim waits for what was read: each object is announced, those that are
// missing too.
func TestPlanAnnouncesWhatItReads(t *testing.T) {
	class, src, sourcePV := waitlist.Class("fast"), waitlist.Claim("shop", "db"), waitlist.PV("pv-db")
	own, name := waitlist.PV("pvc-"+uid), waitlist.VolumeName("pvc-"+uid)
	for _, c := range []struct {
		name   string
		change func(*world)
		want   []waitlist.Object
	}{
		{"all of them", func(*world) {}, []waitlist.Object{class, src, sourcePV, own, name}},
		{"a missing class", func(w *world) { w.class = nil }, []waitlist.Object{class}},
		{"a missing source", func(w *world) { w.source = nil }, []waitlist.Object{class, src}},
		{"a missing PV", func(w *world) { w.pvs = nil }, []waitlist.Object{class, src, sourcePV}},
		{"no source", func(w *world) { w.claim.Spec.DataSource = nil }, []waitlist.Object{class, own, name}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fit()
			c.change(w)
			var got []waitlist.Object
			w.planner(t).Plan(w.claim, false, func(o waitlist.Object) { got = append(got, o) })
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestPlanVerdicts(t *testing.T) {
	const name = "pvc-" + uid
	later := storagev1.VolumeBindingWaitForFirstConsumer
	for _, c := range []struct {
		name   string
		change func(*world)
		want   verdict.Verdict
	}{
		{"a missing class is waited for", func(w *world) { w.class = nil }, verdict.Verdict{
			Kind: verdict.Wait, Reason: verdict.ClassNotFound,
			Message: `the claim waits for StorageClass "fast", which does not exist; provisioning starts by itself when it is there`,
		}},
		{"a class of another driver is refused", func(w *world) { w.class.Provisioner = "other.example.com" }, verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.ClassOfAnotherDriver,
			Message: `StorageClass "fast" belongs to driver "other.example.com", the claim was given to driver "clone.example.com"; create the claim again`,
		}},
		{"a driver that makes no volumes is refused", func(w *world) { w.controller = nil }, verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.DriverLacks,
			Message: `driver "clone.example.com" cannot provision volumes (no CREATE_DELETE_VOLUME capability); use a class of another driver`,
		}},
		{"a driver that makes no clones is refused (rule 1)", func(w *world) { w.controller = w.controller[:1] }, verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.CloneNotSupported,
			Message: `driver "clone.example.com" cannot clone (no CLONE_VOLUME capability); create the claim again without spec.dataSource and copy the data, or use a driver that clones`,
		}},
		{"a PV of another claim has the name", func(w *world) { w.pvs = append(w.pvs, w.pv(name, w.source)) }, verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.VolumeNameTaken,
			Message: `PV "` + name + `" has the name of this claim's volume but is not its PV; remove that PV, or use a longer --volume-name-uuid-length`,
		}},
		{"the claim's PV exists under another name", func(w *world) { w.pvs = append(w.pvs, w.pv("other-"+uid, w.claim)) }, verdict.Verdict{Kind: verdict.Ignore, Message: "its PV exists"}},
		{"the claim's PV exists", func(w *world) { w.pvs = append(w.pvs, w.pv(name, w.claim)) }, verdict.Verdict{Kind: verdict.Ignore, Message: "its PV exists"}},
		{"delayed binding waits for a node", func(w *world) { w.class.VolumeBindingMode = &later }, verdict.Verdict{Kind: verdict.Ignore, Message: "waits for its first consumer"}},
		{"delayed binding starts with a node", func(w *world) {
			w.class.VolumeBindingMode, w.claim.Annotations[wellknown.SelectedNode] = &later, "node-1"
		}, verdict.Verdict{}},
		{"what is wrong is said before a node is waited for", func(w *world) {
			w.class.VolumeBindingMode, w.claim.Spec.AccessModes = &later, nil
		}, verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.InvalidAccessMode,
			Message: "the claim names no access mode; create it again with spec.accessModes",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fit()
			c.change(w)
			plan, v := w.planner(t).Plan(w.claim, false, nil)
			if v != c.want {
				t.Errorf("got  %+v\nwant %+v", v, c.want)
			}
			if v.Ready() == (plan == planner.Plan{}) {
				t.Errorf("%s with the plan %+v", v.Kind, plan)
			}
		})
	}
}

func TestPlanRepeatsWhatIsPinned(t *testing.T) {
	w := fit()
	w.onRecord("old-"+uid, "11811160064")
	plan, v := w.planner(t).Plan(w.claim, true, nil)
	if v != (verdict.Verdict{}) {
		t.Fatalf("got %+v", v)
	}
	if plan.Request.GetName() != "old-"+uid || plan.Request.GetCapacityRange().GetRequiredBytes() != 11<<30 {
		t.Errorf("request %v", plan.Request)
	}
}

// A finalizer and annotations written by a user gain nothing (docs/reliability.md): a volume larger
// than the claim would get past the storage quota.
func TestPlanOfAForgedRecord(t *testing.T) {
	w := fit()
	w.onRecord("pvc-"+uid, "1099511627776")
	plan, v := w.planner(t).Plan(w.claim, true, nil)
	if v != (verdict.Verdict{}) {
		t.Fatalf("got %+v", v)
	}
	if got := plan.Request.GetCapacityRange().GetRequiredBytes(); got != 12<<30 {
		t.Errorf("a claim of 10Gi whose source has 12Gi is given %d bytes", got)
	}
}
