package informers

import (
	"maps"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const foreign = "other.example.com"

// foreignClaim is bound to a volume of another driver; all that is asked of it.
func foreignClaim() *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "db", UID: "0d6b1d2e-7b0e-4d0c-8b1a-4f6f7a9f3c11", ResourceVersion: "42",
			DeletionTimestamp: ptr.To(metav1.NewTime(time.Unix(1700000009, 0))),
			Annotations:       map[string]string{wellknown.BetaStorageClass: "fast"},
		},
		Spec: v1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To(""), VolumeName: "pv-1", VolumeMode: ptr.To(v1.PersistentVolumeBlock),
			Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("8Gi")}},
		},
		Status: v1.PersistentVolumeClaimStatus{
			Phase: v1.ClaimBound, Capacity: v1.ResourceList{v1.ResourceStorage: resource.MustParse("10Gi")},
			Conditions: []v1.PersistentVolumeClaimCondition{{Type: v1.PersistentVolumeClaimUnused, Status: v1.ConditionTrue}},
		},
	}
}

// foreignVolume is a PV of another driver; all that is asked of it.
func foreignVolume() *v1.PersistentVolume {
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-1", UID: "5c1b2f0e-1111-4d0c-8b1a-4f6f7a9f3c11", ResourceVersion: "7"},
		Spec: v1.PersistentVolumeSpec{
			Capacity:               v1.ResourceList{v1.ResourceStorage: resource.MustParse("10Gi")},
			ClaimRef:               &v1.ObjectReference{Namespace: "shop", Name: "db", UID: "0d6b1d2e-7b0e-4d0c-8b1a-4f6f7a9f3c11"},
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: foreign}},
		},
		Status: v1.PersistentVolumeStatus{Phase: v1.VolumeBound},
	}
}

// dressed adds what nobody asks of an object of another driver.
func dressed[T metav1.Object](object T) T {
	object.SetLabels(map[string]string{"app": "db"})
	object.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl"}})
	object.SetFinalizers([]string{"kubernetes.io/pvc-protection"})
	object.SetCreationTimestamp(metav1.Now())
	annotations := map[string]string{wellknown.StorageProvisioner: foreign}
	maps.Copy(annotations, object.GetAnnotations())
	annotations["kubectl.kubernetes.io/last-applied-configuration"] = strings.Repeat("{", 1000)
	object.SetAnnotations(annotations)
	return object
}

func transformed(t *testing.T, obj any) any {
	t.Helper()
	got, err := newPacker(driver, noInTree{}).transform(obj)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestForeignObjectsArePacked(t *testing.T) {
	inTree := foreignVolume()
	inTree.Spec.PersistentVolumeSource = v1.PersistentVolumeSource{NFS: &v1.NFSVolumeSource{Server: "nfs", Path: "/a"}}
	inTree.Annotations = map[string]string{wellknown.ProvisionedBy: foreign}
	free := foreignVolume()
	free.Spec.ClaimRef = nil
	bare := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}}
	dressedClaim := dressed(foreignClaim())
	dressedClaim.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}
	dressedClaim.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "golden"}
	dressedClaim.Status.Conditions = append([]v1.PersistentVolumeClaimCondition{{Type: v1.PersistentVolumeClaimResizing}}, dressedClaim.Status.Conditions...)
	dressedVolume := dressed(foreignVolume())
	dressedVolume.Spec.NodeAffinity = &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{}}
	dressedVolume.Spec.CSI.VolumeHandle, dressedVolume.Spec.CSI.VolumeAttributes = "vol-1", map[string]string{"a": "b"}
	for name, c := range map[string]struct{ object, want metav1.Object }{
		"a claim":           {dressedClaim, foreignClaim()},
		"a claim of nobody": {dressed(bare.DeepCopy()), bare},
		"a PV":              {dressedVolume, foreignVolume()},
		"a PV that is no CSI volume, and keeps what it is": {dressed(inTree.DeepCopy()), inTree},
		"a PV that is bound to nothing":                    {dressed(free.DeepCopy()), free},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := transformed(t, c.object).(*packed)
			if !ok {
				t.Fatalf("it became a %T", got)
			}
			if whole := unpack(got); !equality.Semantic.DeepEqual(whole, c.want) {
				t.Errorf("got  %v\nwant %v", whole, c.want)
			}
			if got.GetNamespace() != c.want.GetNamespace() || got.GetName() != c.want.GetName() ||
				got.GetUID() != c.want.GetUID() || got.GetResourceVersion() != c.want.GetResourceVersion() {
				t.Errorf("it says that it is %s/%s, %s, %s", got.GetNamespace(), got.GetName(), got.GetUID(), got.GetResourceVersion())
			}
			if again := transformed(t, got); again != any(got) {
				t.Errorf("packed twice it became %v", again)
			}
			if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(got); err != nil || key != keyOf(c.want) {
				t.Errorf("its key is %q (%v), want %q", key, err, keyOf(c.want))
			}
		})
	}
}

func keyOf(object metav1.Object) string {
	return strings.TrimPrefix(object.GetNamespace()+"/"+object.GetName(), "/")
}

func TestWhatMayBeOursIsKeptWhole(t *testing.T) {
	annotated := func(key string) func(metav1.Object) {
		return func(object metav1.Object) { object.SetAnnotations(map[string]string{key: driver}) }
	}
	finalized := func(finalizer string) func(metav1.Object) {
		return func(object metav1.Object) { object.SetFinalizers([]string{"a/b", finalizer}) }
	}
	long := func(object metav1.Object) { object.SetResourceVersion(strings.Repeat("9", 256)) }
	for name, c := range map[string]struct {
		object metav1.Object
		change func(metav1.Object)
	}{
		"a claim that was given to the driver":          {foreignClaim(), annotated(wellknown.StorageProvisioner)},
		"a claim that was given to it in the old way":   {foreignClaim(), annotated(wellknown.BetaStorageProvisioner)},
		"a claim of a plugin that the driver took over": {foreignClaim(), annotated(wellknown.MigratedTo)},
		"a claim on record":                             {foreignClaim(), finalized(wellknown.RecordOf(driver).Finalizer)},
		"a protected source":                            {foreignClaim(), finalized(wellknown.CloningProtection)},
		"a PV of the driver": {foreignVolume(), func(object metav1.Object) {
			if pv, ok := object.(*v1.PersistentVolume); ok {
				pv.Spec.CSI.Driver = driver
			}
		}},
		"a PV that the driver made":                  {foreignVolume(), annotated(wellknown.ProvisionedBy)},
		"a PV of a plugin that the driver took over": {foreignVolume(), annotated(wellknown.MigratedTo)},
		"a claim that cannot be packed":              {foreignClaim(), long},
		"a PV that cannot be packed":                 {foreignVolume(), long},
	} {
		t.Run(name, func(t *testing.T) {
			c.object.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl"}})
			c.change(c.object)
			if got := transformed(t, c.object); got != any(c.object) {
				t.Errorf("it became a %T", got)
			}
			if c.object.GetManagedFields() != nil {
				t.Error("it has its managed fields still")
			}
		})
	}
}

// seen notes what handlers are told.
type seen struct {
	Adds, Updates, Deletes []any
	Foreign                []string
}

func (s *seen) OnAdd(obj any, _ bool)            { s.Adds = append(s.Adds, obj) }
func (s *seen) OnUpdate(old, obj any)            { s.Updates = append(s.Updates, old, obj) }
func (s *seen) OnDelete(obj any)                 { s.Deletes = append(s.Deletes, obj) }
func (s *seen) OnForeign(namespace, name string) { s.Foreign = append(s.Foreign, namespace+"/"+name) }

// plain is a handler that does not ask for foreign objects.
type plain struct{ cache.ResourceEventHandler }

func TestHandlersSeeWholeObjects(t *testing.T) {
	own := claim("own", nil, wellknown.CloningProtection)
	p := transformed(t, foreignClaim())
	var all, most, ours seen
	for handler, informer := range map[cache.ResourceEventHandler]thin{&all: {}, plain{&most}: {}, &ours: {own: true}} {
		h := informer.whole(handler)
		h.OnAdd(p, true)
		h.OnAdd(own, true)
		h.OnUpdate(p, p)
		h.OnUpdate(own, own)
		h.OnUpdate(own, p)
		h.OnUpdate(p, own)
		h.OnDelete(cache.DeletedFinalStateUnknown{Key: "shop/db", Obj: p})
		h.OnDelete(p)
		h.OnDelete(own)
	}
	whole := unpack(p)
	want := seen{
		Adds:    []any{own},
		Updates: []any{own, own, own, whole, whole, own},
		Deletes: []any{cache.DeletedFinalStateUnknown{Key: "shop/db", Obj: whole}, whole, own},
	}
	if !equality.Semantic.DeepEqual(most, want) {
		t.Errorf("got  %v\nwant %v", most, want)
	}
	want.Foreign = []string{"shop/db", "shop/db"}
	if !equality.Semantic.DeepEqual(all, want) {
		t.Errorf("with names: got  %v\nwant %v", all, want)
	}
	// What becomes ours is new to those who see nothing else, and the other way round.
	want = seen{Adds: []any{own, own}, Updates: []any{own, own}, Deletes: []any{own, own}}
	if !equality.Semantic.DeepEqual(ours, want) {
		t.Errorf("ours: got  %v\nwant %v", ours, want)
	}
}

func TestPackedObjectsInTheCache(t *testing.T) {
	own := claim("own", nil, wellknown.CloningProtection)
	s := filled(t, false, foreignVolume())
	for _, obj := range []any{transformed(t, foreignClaim()), own} {
		if err := s.Claims.GetStore().Add(obj); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Claim("shop", "db"); !equality.Semantic.DeepEqual(got, foreignClaim()) {
		t.Errorf("the claim is %v", got)
	}
	if got, found, err := s.Claims.GetStore().Get(foreignClaim()); err != nil || !found || !equality.Semantic.DeepEqual(got, foreignClaim()) {
		t.Errorf("the store has %v, %v, %v", got, found, err)
	}
	if got := s.Claims.GetStore().List(); len(got) != 2 {
		t.Errorf("all claims are %v", got)
	}
	var ours []string
	s.EachOwnClaim(func(c *v1.PersistentVolumeClaim) { ours = append(ours, c.Name) })
	if len(ours) != 1 || ours[0] != "own" {
		t.Errorf("own claims are %v", ours)
	}
	if got := s.ProtectedSources(); len(got) != 1 {
		t.Errorf("protected sources are %v", got)
	}
}
