package informers

import (
	"reflect"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const driver = "clone.example.com"

// filled returns informers that never ran, with the objects in their caches.
// The labels of a claim say under which keys it is found.
func filled(t *testing.T, attachments bool, objects ...metav1.Object) *Set {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://nowhere.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(client, driver, Keys{
		CloneSource: func(c *v1.PersistentVolumeClaim) string { return c.Labels["source"] },
		Snapshot:    func(*v1.PersistentVolumeClaim) string { return "" },
		VolumeName:  func(c *v1.PersistentVolumeClaim) string { return c.Labels["volume"] },
	}, Wanted{Attachments: attachments})
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		store := s.Claims.GetStore()
		switch object.(type) {
		case *v1.PersistentVolume:
			store = s.PVs.GetStore()
		case *storagev1.StorageClass:
			store = s.Classes.GetStore()
		case *storagev1.VolumeAttachment:
			store = s.Attachments.GetStore()
		}
		if err := store.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func claim(name string, labels map[string]string, finalizers ...string) *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels, Finalizers: finalizers}}
}

func volumeOf(name, driver, handle string) *v1.PersistentVolume {
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if driver != "" {
		pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}
	}
	return pv
}

func attachment(name string, pv *string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       storagev1.VolumeAttachmentSpec{Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: pv}},
	}
}

func names[T metav1.Object](objects []T) []string {
	list := make([]string, 0, len(objects))
	for _, object := range objects {
		list = append(list, object.GetName())
	}
	slices.Sort(list)
	return list
}

func TestIndexes(t *testing.T) {
	s := filled(t, true,
		claim("db", nil, "kubernetes.io/pvc-protection", wellknown.CloningProtection),
		claim("web", nil, "kubernetes.io/pvc-protection"),
		claim("copy-1", map[string]string{"source": "shop/db", "volume": "pvc-1"}),
		claim("copy-2", map[string]string{"source": "shop/db", "volume": "pvc-2"}),
		claim("blank", map[string]string{"volume": "pvc-2"}),
		volumeOf("pv-1", driver, "handle-1"),
		volumeOf("pv-2", driver, "handle-1"),
		volumeOf("pv-3", "other.example.com", "handle-1"),
		volumeOf("pv-4", "", ""),
		attachment("on-a", new("pv-1")),
		attachment("on-b", new("pv-1")),
		attachment("inline", nil),
	)
	for _, c := range []struct {
		name string
		got  []string
		want []string
	}{
		{"clones are found by their source", names(s.ClonesOf("shop", "db")), []string{"copy-1", "copy-2"}},
		{"a claim without clones has none", names(s.ClonesOf("shop", "web")), []string{}},
		{"the same name in another namespace has none", names(s.ClonesOf("vault", "db")), []string{}},
		{"claims are found by the pinned volume name", names(s.ClaimsOfVolumeName("pvc-2")), []string{"blank", "copy-2"}},
		{"claims that are not to be found are not", names(s.ClaimsOfVolumeName("")), []string{}},
		{"protected sources are found by the finalizer", names(s.ProtectedSources()), []string{"db"}},
		{"PVs of this driver are found by the handle", names(s.PVsOfHandle("handle-1")), []string{"pv-1", "pv-2"}},
		{"a handle that nobody has finds nothing", names(s.PVsOfHandle("")), []string{}},
		{"attachments are found by the PV", names(s.AttachmentsOf("pv-1")), []string{"on-a", "on-b"}},
		{"a PV that is not attached has none", names(s.AttachmentsOf("pv-2")), []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !slices.Equal(c.got, c.want) {
				t.Errorf("got %v, want %v", c.got, c.want)
			}
		})
	}
	if got := s.Recorded(); got != 3 { // two of them pin the same volume name
		t.Errorf("%d claims are on record, want 3", got)
	}
}

func TestIndexesFollowChanges(t *testing.T) {
	s := filled(t, false, claim("copy", map[string]string{"source": "shop/db", "volume": "pvc-1"}))
	if err := s.Claims.GetStore().Update(claim("copy", nil)); err != nil {
		t.Fatal(err)
	}
	if got := s.ClonesOf("shop", "db"); len(got) != 0 {
		t.Errorf("a clone that is through is still found: %v", names(got))
	}
	if got := s.Recorded(); got != 0 {
		t.Errorf("%d claims are on record, want none", got)
	}
}

func TestLookups(t *testing.T) {
	s := filled(t, false, claim("db", nil), volumeOf("pv-1", driver, "h"),
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}})
	if s.Claim("shop", "db") == nil || s.PV("pv-1") == nil || s.Class("fast") == nil {
		t.Error("what is in the cache is not found")
	}
	if s.Claim("vault", "db") != nil || s.Claim("", "db") != nil || s.PV("") != nil || s.Class("slow") != nil {
		t.Error("what is not in the cache is found")
	}
	if got := s.AttachmentsOf("pv-1"); got != nil {
		t.Errorf("attachments are not watched, but there are %v", got)
	}
}

func TestOwnVolumes(t *testing.T) {
	s := filled(t, false, volumeOf("pv-1", driver, "h"))
	foreign, err := newPacker(driver, noInTree{}).transform(volumeOf("pv-2", "other.example.com", "h"))
	if err == nil {
		err = s.PVs.GetStore().Add(foreign)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := s.OwnVolumes(); len(got) != 1 || got[0].Name != "pv-1" {
		t.Errorf("the driver's PVs are %v", got)
	}
	if s.PV("pv-2") == nil {
		t.Error("the other PV is not there to be left out")
	}
}

func TestIndexOfAStranger(t *testing.T) {
	_, err := index(protected)(&v1.Pod{})
	if err == nil || err.Error() != "unexpected *v1.Pod in the cache" {
		t.Errorf("got %v", err)
	}
}

func TestTrim(t *testing.T) {
	c := claim("db", map[string]string{"a": "b"}, "f")
	c.Annotations = map[string]string{"k": "v", wellknown.StorageProvisioner: driver}
	want := c.DeepCopy()
	c.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	got, err := newPacker(driver, noInTree{}).transform(c)
	if err != nil {
		t.Fatal(err)
	}
	if trimmed, ok := got.(*v1.PersistentVolumeClaim); !ok || trimmed.String() != want.String() {
		t.Errorf("got %v, want %v", got, want)
	}
	tombstone := cache.DeletedFinalStateUnknown{Key: "shop/db", Obj: c}
	if got, err := newPacker(driver, noInTree{}).transform(tombstone); err != nil || got != any(tombstone) {
		t.Errorf("a tombstone became %v and %v", got, err)
	}
}

// Secrets are named by templates about the whole claim, and by what a PV says of itself:
// what is trimmed must not be among that.
func TestTrimmingKeepsWhatSecretsAreNamedBy(t *testing.T) {
	c := claim("data", nil)
	c.Annotations = map[string]string{wellknown.StorageProvisioner: driver, "team": "blue", "example.com/anything": "x"}
	kept, err := newPacker(driver, noInTree{}).transform(c)
	if got, ok := kept.(*v1.PersistentVolumeClaim); err != nil || !ok || got.Annotations["team"] != "blue" || got.Annotations["example.com/anything"] != "x" {
		t.Errorf("a claim keeps %v, %v", kept, err)
	}
	pv := volumeOf("pv", driver, "vol")
	pv.Annotations = map[string]string{
		wellknown.DeletionSecretName: "n", wellknown.DeletionSecretNamespace: "ns", wellknown.BetaStorageClass: "fast",
	}
	pv.Spec.StorageClassName = "fast"
	pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "shop", Name: "data", UID: "uid"}
	want := pv.DeepCopy()
	kept, err = newPacker(driver, noInTree{}).transform(pv)
	if got, ok := kept.(*v1.PersistentVolume); err != nil || !ok || !reflect.DeepEqual(got.Annotations, want.Annotations) ||
		got.Spec.StorageClassName != "fast" || got.Spec.ClaimRef.Name != "data" || got.Spec.ClaimRef.Namespace != "shop" || got.Spec.ClaimRef.UID != "uid" {
		t.Errorf("a PV keeps %+v, %v", kept, err)
	}
	class := &storagev1.StorageClass{Parameters: map[string]string{"csi.storage.k8s.io/secret-name": "n"}}
	kept, err = newPacker(driver, noInTree{}).transform(class)
	if got, ok := kept.(*storagev1.StorageClass); err != nil || !ok || len(got.Parameters) != 1 {
		t.Errorf("a class keeps %+v, %v", kept, err)
	}
}
