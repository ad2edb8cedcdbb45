package integration

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// TestSnapshotsBesideTheIncumbents shows what csi-provisioner does not do. It has an API
// server with the gate for other namespaces, grants and snapshots.
func TestSnapshotsBesideTheIncumbents(t *testing.T) {
	t.Parallel()
	world := crossNamespace(t)
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := world.Cluster.ApplyFile(t.Context(), filepath.Join(root, "deploy", "kubernetes", "rbac-cross-namespace.yaml")); err != nil {
		t.Fatal(err)
	}
	setup := kit.New(t, kit.On(world))
	setup.InstallReferenceGrants()
	setup.InstallSnapshots()
	for name, try := range map[string]func(*testing.T, *kit.Env){
		"a snapshot of another namespace is restored and let go": restoreAcross,
		"the last of several restores lets the snapshot go":      lastRestoreFrees,
		"a snapshot that others sweep is left to them":           foreignSnapshotLeft,
		"a restore goes on although its snapshot is deleted":     restoreGoesOn,
		"a volume is found when nothing protects its snapshot":   restoreUnmarked,
		"the page for users": snapshotsPage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(t, kit.New(t, kit.On(world)))
		})
	}
}

// restoreAcross restores a snapshot of the namespace of the test into a second one. The
// snapshot is not deleted meanwhile: the snapshot controller, which keeps what a snapshot
// is bound to as long as a claim waits for it, looks for claims in the snapshot's own
// namespace only.
func restoreAcross(t *testing.T, env *kit.Env) {
	withSnapshot(t, env, crossNamespaceGate, noBackOff, noBackOffMax)
	away := env.Namespace + "-away"
	env.AddNamespace(away)
	env.Create(env.Claim("back", kit.InNamespace(away), kit.DataSourceRef(v1.TypedObjectReference{
		APIGroup: ptr.To("snapshot.storage.k8s.io"), Kind: "VolumeSnapshot", Name: "monday", Namespace: ptr.To(env.Namespace),
	})))
	env.Eventually("the restore waits for a grant", func() error {
		return heard(env, away+"/back", told{"Normal", "CloneNotGranted", fmt.Sprintf(
			`restore waits for permission: no ReferenceGrant in namespace %q lets PersistentVolumeClaims of namespace %q use VolumeSnapshot "monday"; it starts by itself when one does`, env.Namespace, away)})
	})
	// A grant for claims is none for snapshots.
	env.Grant(env.Namespace, "claims", away, "")
	held := env.Faults.On("CreateVolume").Gate()
	env.GrantObject(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
		"metadata": map[string]any{"namespace": env.Namespace, "name": "snapshots"},
		"spec": map[string]any{
			"from": []any{map[string]any{"group": "", "kind": "PersistentVolumeClaim", "namespace": away}},
			"to":   []any{map[string]any{"group": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "monday"}},
		},
	}})
	await(t, held.Entered(), "the driver is called")
	if !protectedSnapshot(env, "monday") {
		t.Error("the snapshot is not protected while it is being restored")
	}
	held.Release()
	env.WaitBound(away + "/back")
	sameContent(t, env, away+"/back", "src")
	snapshotFree(env, "monday")
	env.DeleteSnapshot("monday")
	snapshotGone(env, "monday")
}

// lastRestoreFrees: the first restore to be done does not take the protection off that
// another one needs, which is tried again after an error.
func lastRestoreFrees(t *testing.T, env *kit.Env) {
	withSnapshot(t, env)
	env.Create(env.Claim("first", kit.RestoreOf("monday")))
	away := env.Faults.On("CreateVolume").When(ofSize(2<<30)).Fail(codes.Unavailable, "away")
	env.Create(env.Claim("second", kit.RestoreOf("monday"), kit.Size("2Gi")))
	env.WaitBound("first")
	env.Eventually("the second was tried", func() error {
		if away.Hits() == 0 {
			return fmt.Errorf("it was not")
		}
		return nil
	})
	env.Eventually("the first is off record", func() error { return unmarked(env, "first") })
	env.DeleteSnapshot("monday")
	env.Eventually("the snapshot is kept for the second", func() error {
		if n := env.SnapshotEvents("monday", "SnapshotHeld"); n != 1 {
			return fmt.Errorf("it said so %d times", n)
		}
		return nil
	})
	away.Remove()
	env.WaitBound("second")
	sameContent(t, env, "second", "src")
	snapshotGone(env, "monday")
}

// killedDuringRestore has "back" restored from "monday", and the provisioner killed while
// the driver is at it; the driver finishes. It returns how many calls there were.
func killedDuringRestore(t *testing.T, env *kit.Env) int {
	t.Helper()
	p := withSnapshot(t, env, alone)
	hanging := env.Faults.On("CreateVolume").Next(1).HangUntilReleased()
	env.Create(env.Claim("back", kit.RestoreOf("monday")))
	await(t, hanging.Entered(), "the driver is called")
	p.Kill()
	hanging.Release()
	if err := env.Faults.WaitIdle(env.Ctx); err != nil {
		t.Fatal(err)
	}
	if err := volumes(env, 2); err != nil {
		t.Fatal(err)
	}
	return len(env.Faults.Calls("CreateVolume"))
}

// restoreGoesOn: who takes over finishes what is on record, and then the snapshot goes.
func restoreGoesOn(t *testing.T, env *kit.Env) {
	killedDuringRestore(t, env)
	env.DeleteSnapshot("monday")
	env.StartProvisioner(alone)
	env.WaitBound("back")
	sameContent(t, env, "back", "src")
	snapshotGone(env, "monday")
	if err := volumes(env, 2); err != nil {
		t.Error(err)
	}
}

// restoreUnmarked: a person takes the protection off, and deletes the snapshot. Who takes
// over refuses the claim; when that is deleted its volume is found all the same.
func restoreUnmarked(t *testing.T, env *kit.Env) {
	before := killedDuringRestore(t, env)
	env.ChangeSnapshot("monday", func(s *unstructured.Unstructured) {
		s.SetFinalizers(slices.DeleteFunc(s.GetFinalizers(), func(f string) bool { return f == wellknown.SnapshotProtection }))
	})
	env.DeleteSnapshot("monday")
	env.StartProvisioner(alone)
	env.WaitEvent("back", "SnapshotDeleting")
	if n := len(env.Faults.Calls("CreateVolume")); n != before {
		t.Errorf("the driver was asked %d times for a claim that is refused", n-before)
	}
	env.Delete("back")
	env.WaitGone("back")
	env.Eventually("its volume is deleted", func() error { return volumes(env, 1) })
	snapshotGone(env, "monday")
}

// foreignSnapshotLeft: the finalizer on a snapshot that another driver holds, or nobody
// yet, is somebody else's.
func foreignSnapshotLeft(t *testing.T, env *kit.Env) {
	withSnapshot(t, env, "--snapshot-orphan-sweep-interval=200ms")
	mark := func(s *unstructured.Unstructured) {
		s.SetFinalizers(append(s.GetFinalizers(), wellknown.SnapshotProtection))
	}
	other := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
		"metadata": map[string]any{"namespace": env.Namespace, "name": "unbound", "finalizers": []any{wellknown.SnapshotProtection}},
		"spec":     map[string]any{"source": map[string]any{"volumeSnapshotContentName": env.Namespace + "-nothing"}},
	}}
	env.SnapshotObject(other)
	env.ChangeSnapshot("monday", mark)
	snapshotFree(env, "monday")
	if snapshot := env.Snapshot("unbound"); !slices.Contains(snapshot.GetFinalizers(), wellknown.SnapshotProtection) {
		t.Error("the finalizer of a snapshot that nobody holds was taken off")
	}
	env.DeleteSnapshot("unbound")
	snapshotGone(env, "unbound") // there is nothing left to be protected
}

// snapshotsPage does what the page for users says: every manifest of it is accepted, and
// every claim gets its volume.
func snapshotsPage(t *testing.T, env *kit.Env) {
	env.CreateClass("cloning")
	for _, namespace := range []string{"shop", "test"} {
		env.AddNamespace(namespace)
	}
	env.StartSnapshotter()
	env.StartProvisioner(crossNamespaceGate)
	var claims []string
	for _, manifests := range manifestsOf(t, "docs/snapshots.md") {
		manifests = bytes.ReplaceAll(manifests, []byte("csi.example.com"), []byte(env.DriverName))
		env.Eventually("the manifests are accepted", func() error { return env.Cluster.Apply(env.Ctx, manifests) })
		claims = append(claims, claimsIn(t, manifests)...)
	}
	if want := []string{"shop/db", "shop/db-of-monday", "test/db-of-monday"}; !slices.Equal(claims, want) {
		t.Fatalf("the claims are %v, want %v", claims, want)
	}
	env.WaitBound(claims...)
	for _, claim := range claims[1:] {
		if requestFor(t, env, claim).GetVolumeContentSource().GetSnapshot().GetSnapshotId() == "" {
			t.Errorf("claim %q was not restored", claim)
		}
	}
}

// ofSize selects calls for a volume of that many bytes.
func ofSize(size int64) func(any) bool {
	return func(req any) bool {
		asked, ok := req.(*csi.CreateVolumeRequest)
		return ok && asked.GetCapacityRange().GetRequiredBytes() == size
	}
}
