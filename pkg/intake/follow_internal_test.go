package intake

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/inuse"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// answers is an API server that a real one cannot be made to be: it loses
// chosen answers to patches, and does something while it lists pods.
type answers struct {
	lose    int
	patches int
	// pods lists the pods of the namespace; nil: the list is forbidden.
	pods func() []v1.Pod
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": map[string]any{"allowed": false}})
		return
	case strings.HasSuffix(r.URL.Path, "/pods") && a.pods == nil:
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(apierrors.NewForbidden(v1.Resource("pods"), "", nil).Status())
		return
	case strings.HasSuffix(r.URL.Path, "/pods"):
		_ = json.NewEncoder(w).Encode(v1.PodList{
			TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: a.pods(),
		})
		return
	case r.Method == http.MethodPatch:
		a.patches++
	}
	if a.lose > 0 {
		a.lose--
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "PersistentVolumeClaim", "apiVersion": "v1",
		"metadata": map[string]any{"name": "copy", "namespace": "ns", "uid": "uid-copy", "resourceVersion": "99"},
	})
}

// clean cleans nothing up.
type clean struct{}

// Undo implements Cleaner.
func (clean) Undo(context.Context, *ledger.Turn, *v1.PersistentVolumeClaim) error { return nil }

// nobody protects nothing.
type nobody struct{}

func (nobody) Hold(context.Context, types.UID, planner.Plan) error { return nil }
func (nobody) Unhold(types.UID)                                    {}
func (nobody) Reconsider(source.Ref)                               {}

// behindServer returns an intake that talks to the server, and a claim of ours.
func behindServer(t *testing.T, a *answers) (*Intake, *v1.PersistentVolumeClaim) {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	none := func(*v1.PersistentVolumeClaim) string { return "" }
	caches, err := informers.New(client, driver, informers.Keys{CloneSource: none, Snapshot: none, VolumeName: none}, informers.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: driver, ReclaimPolicy: new(v1.PersistentVolumeReclaimDelete)}
	if err := caches.Classes.GetStore().Add(class); err != nil {
		t.Fatal(err)
	}
	recorder := observe.NewRecorder(t.Context(), client, driver, clock.RealClock{})
	t.Cleanup(recorder.Stop)
	keys, known := wellknown.RecordOf(driver), ledger.New(time.Second, clock.RealClock{})
	plan := planner.New(planner.Config{
		Client: client, Caches: caches, Keys: keys, Ledger: known, Naming: record.Naming{Prefix: "pvc", UUIDLength: -1},
		Driver: &csidriver.Driver{
			Name:   driver,
			Plugin: map[csi.PluginCapability_Service_Type]bool{csi.PluginCapability_Service_CONTROLLER_SERVICE: true},
			Controller: map[csi.ControllerServiceCapability_RPC_Type]bool{
				csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME: true, csi.ControllerServiceCapability_RPC_CLONE_VOLUME: true,
			},
		},
	})
	i := forTest(t, Config{
		Client: client, Writer: claimwriter.New(client, false), Caches: caches, Driver: driver, Keys: keys,
		Ledger: known, Recorder: recorder,
		Planner: plan, Cleaner: clean{}, Protector: nobody{}, OnRecord: func(planner.Plan) bool { return true }, WakeEngine: func(*v1.PersistentVolumeClaim) {},
		RetryStart: time.Second, RetryMax: time.Second, Clock: clock.RealClock{},
	})
	return i, claimOf("copy", "1Gi")
}

// claimOf returns a claim of the driver's class.
func claimOf(name, size string) *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "5",
			Annotations: map[string]string{wellknown.StorageProvisioner: driver},
		},
		Spec: v1.PersistentVolumeClaimSpec{
			AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, StorageClassName: new("fast"),
			Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}},
		},
	}
}

// cloneDB makes the claim a clone of "db", which is bound, and returns the source. The users of
// the source are looked for.
func cloneDB(t *testing.T, i *Intake, claim *v1.PersistentVolumeClaim) *v1.PersistentVolumeClaim {
	t.Helper()
	claim.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "db"}
	db := claimOf("db", "1Gi")
	db.Spec.VolumeName, db.Status.Phase = "pv-db", v1.ClaimBound
	put(t, i, db)
	putPV(t, i, "pv-db", db)
	i.Planner.Strict, i.Planner.Pods = true, inuse.New(i.Client, unawaited{}, clock.RealClock{})
	ctx, cancel := context.WithCancel(t.Context())
	i.Planner.Pods.Start(ctx)
	t.Cleanup(func() { cancel(); i.Planner.Pods.Wait() })
	return db
}

// putPV makes the cache hold a PV that is bound to the claim.
func putPV(t *testing.T, i *Intake, name string, claim *v1.PersistentVolumeClaim) {
	t.Helper()
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{wellknown.ProvisionedBy: driver}}}
	pv.Spec.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}
	pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "vol-of-" + name}
	pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID}
	pv.Status.Phase = v1.VolumeBound
	if err := i.Caches.PVs.GetStore().Add(pv); err != nil {
		t.Fatal(err)
	}
}

// unawaited is a list of waiting claims that is empty.
type unawaited struct{}

func (unawaited) Wake(waitlist.Object)         {}
func (unawaited) Awaited(waitlist.Object) bool { return false }

// put makes the cache hold the claim.
func put(t *testing.T, i *Intake, claim *v1.PersistentVolumeClaim) {
	t.Helper()
	if err := i.Caches.Claims.GetStore().Add(claim); err != nil {
		t.Fatal(err)
	}
}

func TestARecordWhoseAnswerGotLostIsTakenOffAndJudgedAnew(t *testing.T) {
	a := &answers{lose: 2} // the patch, and the look at what became of it
	i, claim := behindServer(t, a)
	put(t, i, claim)
	if err := i.reconcile(t.Context(), keyOf(claim)); err == nil {
		t.Fatal("the record was written without an answer")
	}
	landed := claim.DeepCopy()
	landed.ResourceVersion, landed.Finalizers = "6", []string{i.Keys.Finalizer}
	put(t, i, landed)
	if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
		t.Fatal(err)
	}
	if a.patches != 2 {
		t.Errorf("%d patches, want the record and its removal", a.patches)
	}
	again := claim.DeepCopy()
	again.ResourceVersion = "100"
	put(t, i, again)
	if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
		t.Fatal(err)
	}
	if state, known := i.Ledger.State(claim.UID); !known || state != ledger.Idle {
		t.Errorf("the claim is %s, known %t, want idle: on record anew", state, known)
	}
}

func TestAReleaseThatFailsIsTriedAgain(t *testing.T) {
	a := &answers{lose: 1}
	i, claim := behindServer(t, a)
	claim.Finalizers = []string{i.Keys.Finalizer}
	claim.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	put(t, i, claim)
	turn, _ := i.Ledger.Take(claim.UID)
	turn.Recording() // never called
	turn.Done()
	if err := i.reconcile(t.Context(), keyOf(claim)); err == nil {
		t.Fatal("the first try got no answer")
	}
	if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
		t.Fatal(err)
	}
	if a.patches != 2 {
		t.Errorf("%d patches, want 2", a.patches)
	}
}

// unprotected cannot protect a source.
type unprotected struct{ nobody }

func (unprotected) Hold(context.Context, types.UID, planner.Plan) error {
	return errors.New("the API server does not answer")
}

// A claim that could not be judged may need its source, which another provisioner may
// have protected for it; but not for ever.
func TestAnErrorIsNoVerdict(t *testing.T) {
	i, claim := behindServer(t, &answers{pods: func() []v1.Pod { return nil }})
	cloneDB(t, i, claim)
	i.Protector = unprotected{}
	put(t, i, claim)
	k := keyOf(claim)
	i.unseen[k] = struct{}{}
	for try := range firstTries {
		if err := i.reconcile(t.Context(), k); err == nil {
			t.Fatal("it was judged")
		}
		select {
		case <-i.Judged():
			t.Fatalf("after try %d sources are let go", try)
		default:
		}
		i.queue.AddRateLimited(k)
	}
	if err := i.reconcile(t.Context(), k); err == nil {
		t.Fatal("it was judged")
	}
	select {
	case <-i.Judged():
	default:
		t.Error("sources are kept for ever")
	}
}

// A claim that is bound to a PV of ours has its volume, whatever somebody wrote into
// its record: nothing is looked for under the name that stands there.
func TestABoundClaimWhoseRecordWasChangedIsReleased(t *testing.T) {
	a := &answers{}
	i, claim := behindServer(t, a)
	claim.Finalizers = []string{i.Keys.Finalizer}
	claim.Spec.VolumeName, claim.Status.Phase = "pvc-of-old", v1.ClaimBound
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-of-old", Annotations: map[string]string{wellknown.ProvisionedBy: driver}}}
	pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "vol"}
	pv.Spec.ClaimRef = &v1.ObjectReference{UID: claim.UID}
	put(t, i, claim)
	if err := i.Caches.PVs.GetStore().Add(pv); err != nil {
		t.Fatal(err)
	}
	if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
		t.Fatal(err)
	}
	if a.patches != 1 || i.dirty.Len() != 0 {
		t.Errorf("%d patches, want the release; %d claims to be cleaned up", a.patches, i.dirty.Len())
	}
}

// frozen is a clock that stands still.
type frozen struct{ time.Time }

func (f frozen) Now() time.Time                  { return f.Time }
func (f frozen) Since(t time.Time) time.Duration { return f.Sub(t) }

// The row "our PV saved a while ago" of the design's table: nothing can leak once the PV
// is saved, so a claim that is not bound for long loses its record all the same.
func TestAClaimWhosePVIsSavedIsReleased(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		age     time.Duration
		change  func(*v1.PersistentVolumeClaim)
		patches int
	}{
		"just saved":                  {time.Second, func(*v1.PersistentVolumeClaim) {}, 0},
		"saved a while ago":           {savedPatience + time.Second, func(*v1.PersistentVolumeClaim) {}, 1},
		"bound, but not to the end":   {time.Second, func(c *v1.PersistentVolumeClaim) { c.Spec.VolumeName = "pvc-uid-copy" }, 0},
		"bound":                       {time.Second, func(c *v1.PersistentVolumeClaim) { c.Spec.VolumeName, c.Status.Phase = "pvc-uid-copy", v1.ClaimBound }, 1},
		"deleted before it was bound": {time.Second, func(c *v1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{Time: now} }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answers{}
			i, claim := behindServer(t, a)
			i.Clock = frozen{now}
			claim.Finalizers = []string{i.Keys.Finalizer}
			c.change(claim)
			put(t, i, claim)
			pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{
				Name: "pvc-uid-copy", Annotations: map[string]string{wellknown.ProvisionedBy: driver}, CreationTimestamp: metav1.NewTime(now.Add(-c.age)),
			}}
			pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "vol"}
			pv.Spec.ClaimRef = &v1.ObjectReference{UID: claim.UID}
			if err := i.Caches.PVs.GetStore().Add(pv); err != nil {
				t.Fatal(err)
			}
			if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
				t.Fatal(err)
			}
			if a.patches != c.patches || i.dirty.Len() != 0 {
				t.Errorf("%d patches, want %d; %d claims to be cleaned up", a.patches, c.patches, i.dirty.Len())
			}
		})
	}
}

// Another process may have given the claim's volume another name, and its PV may have been
// bound since: that PV says nothing of the volume that this process has asked for.
func TestOwned(t *testing.T) {
	pvFor := func(name string, claim *v1.PersistentVolumeClaim) *v1.PersistentVolume {
		pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{wellknown.ProvisionedBy: driver}}}
		pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "vol-of-" + name}
		pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID}
		return pv
	}
	for _, c := range []struct {
		name, pv, bound, asked string
		want                   bool
	}{
		{"no PV", "", "", "", false},
		{"the PV of its volume's name", "pvc-uid-copy", "", "pvc-uid-copy", true},
		{"bound to a PV of another name", "other-uid-copy", "other-uid-copy", "", true},
		{"the same, and the driver was asked for that", "other-uid-copy", "other-uid-copy", "other-uid-copy", true},
		{"the same, and the driver was asked for another one", "other-uid-copy", "other-uid-copy", "pvc-uid-copy", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			i, claim := behindServer(t, &answers{})
			claim.Spec.VolumeName = c.bound
			if c.pv != "" {
				if err := i.Caches.PVs.GetStore().Add(pvFor(c.pv, claim)); err != nil {
					t.Fatal(err)
				}
			}
			if c.asked != "" {
				turn, _ := i.Ledger.Take(claim.UID)
				turn.Answered(turn.Calling(&csi.CreateVolumeRequest{Name: c.asked}), ledger.Indeterminate)
				turn.Done()
			}
			if got := i.owned(claim, "pvc-uid-copy"); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
