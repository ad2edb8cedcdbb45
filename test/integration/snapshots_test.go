package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// TestSnapshots shares one cluster with the real snapshot-controller, and each part runs
// the real csi-snapshotter beside its driver. The CRDs are installed while it runs.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{AuditLog: true})
	// The first part of this one is without the CRDs, and nobody else runs.
	t.Run("the CRDs are installed later", func(t *testing.T) { installSnapshotsLater(t, kit.New(t, kit.On(world))) })
	for name, try := range map[string]func(*testing.T, *kit.Env){
		"a claim has the content of its snapshot":          restoreContent,
		"a restore waits for its snapshot":                 restoreWaits,
		"what cannot be restored is refused":               restoreRefused,
		"an administrator allows another volumeMode":       restoreConverted,
		"a snapshot is kept while it is being restored":    snapshotHeld,
		"a snapshot is let go by the next process":         snapshotOrphaned,
		"a claim that is deleted meanwhile leaves nothing": restoreDeleted,
		"many claims are restored from one snapshot":       manyRestores,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(t, kit.New(t, kit.On(world)))
		})
	}
	t.Run("snapshots may not be updated", func(t *testing.T) {
		t.Parallel()
		restoreUnprotected(t, kit.New(t, kit.On(world), kit.WithoutRule("volumesnapshots", "update")), "update")
	})
	t.Run("snapshots may only be read", func(t *testing.T) {
		t.Parallel()
		restoreUnprotected(t, kit.New(t, kit.On(world), kit.WithoutRule("volumesnapshots", "list", "watch", "update")), "list")
	})
	t.Run("with the rules of the incumbent", func(t *testing.T) {
		t.Parallel()
		restoreContent(t, kit.New(t, kit.On(world), kit.As(kit.IncumbentRBAC)))
	})
}

// withSnapshot starts everything and makes a bound source "src" with a snapshot "monday".
func withSnapshot(t *testing.T, env *kit.Env, args ...string) *kit.Provisioner {
	t.Helper()
	env.StartSnapshotter()
	p := env.StartProvisioner(args...)
	bindSource()(t, env)
	env.WriteFile("src", "file", []byte("content of monday"))
	env.TakeSnapshot("monday", "src")
	env.WaitSnapshot("monday")
	return p
}

// protectedSnapshot says whether the snapshot carries our finalizer.
func protectedSnapshot(env *kit.Env, name string) bool {
	snapshot := env.Snapshot(name)
	return snapshot != nil && slices.Contains(snapshot.GetFinalizers(), wellknown.SnapshotProtection)
}

// snapshotFree waits until our finalizer is off the snapshot.
func snapshotFree(env *kit.Env, name string) {
	env.Eventually("the snapshot is let go", func() error {
		if protectedSnapshot(env, name) {
			return fmt.Errorf("it carries %s", wellknown.SnapshotProtection)
		}
		return nil
	})
}

func snapshotGone(env *kit.Env, name string) {
	env.Eventually("the snapshot is gone", func() error {
		if snapshot := env.Snapshot(name); snapshot != nil {
			return fmt.Errorf("its finalizers are %v", snapshot.GetFinalizers())
		}
		return nil
	})
}

func installSnapshotsLater(t *testing.T, env *kit.Env) {
	p := env.StartProvisioner(noBackOff, noBackOffMax)
	bindSource()(t, env)
	env.WriteFile("src", "file", []byte("content of monday"))
	env.Create(env.Claim("back", kit.RestoreOf("monday")), env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy") // others are not held up
	env.Eventually("the restore waits", func() error {
		return heard(env, "back", told{"Normal", "SnapshotNotFound",
			`restore waits for VolumeSnapshot "monday", and this cluster has no VolumeSnapshots at all: the CRDs of snapshot.storage.k8s.io/v1 are not installed; it starts by itself when they are, and the snapshot is there and ready`})
	})
	if want := `"The API server has no VolumeSnapshots; claims that are to be restored from one wait until it has"`; strings.Count(p.Log(), want) != 1 {
		t.Errorf("the log does not say once %s", want)
	}
	env.InstallSnapshots()
	t.Parallel() // from here on the other tests run, too
	env.StartSnapshotter()
	env.TakeSnapshot("monday", "src")
	env.WaitBound("back")
	sameContent(t, env, "back", "src")
}

func restoreContent(t *testing.T, env *kit.Env) {
	withSnapshot(t, env, noBackOff, noBackOffMax)
	env.WriteFile("src", "file", []byte("content of tuesday"))
	env.Create(env.Claim("back", kit.RestoreOf("monday"), kit.Size("2Gi")))
	env.WaitBound("back")
	if got := string(env.ReadFile("back", "file")); got != "content of monday" {
		t.Errorf("the restored volume has %q", got)
	}
	calls := env.Faults.Calls("CreateVolume")
	last, _ := calls[len(calls)-1].Request.(*csi.CreateVolumeRequest)
	if last.GetVolumeContentSource().GetSnapshot().GetSnapshotId() == "" || last.GetCapacityRange().GetRequiredBytes() != 2<<30 {
		t.Errorf("the driver was asked for %v", last)
	}
	if err := unmarked(env, "back"); err != nil {
		env.Eventually("the restored claim is off record", func() error { return unmarked(env, "back") })
	}
	snapshotFree(env, "monday")
	// It depends on nothing any more.
	env.DeleteSnapshot("monday")
	env.Delete("src")
	env.WaitGone("src")
	snapshotGone(env, "monday")
	if got := string(env.ReadFile("back", "file")); got != "content of monday" {
		t.Errorf("without its snapshot the restored volume has %q", got)
	}
}

func restoreWaits(t *testing.T, env *kit.Env) {
	env.StartSnapshotter()
	env.StartProvisioner(noBackOff, noBackOffMax)
	bindSource()(t, env)
	env.Create(env.Claim("back", kit.RestoreOf("monday")))
	env.Eventually("the restore waits for the snapshot", func() error {
		return heard(env, "back", told{"Normal", "SnapshotNotFound",
			`restore waits for VolumeSnapshot "monday", which does not exist; it starts by itself when that snapshot is there and ready`})
	})
	taken := env.Faults.On("CreateSnapshot").Gate()
	env.TakeSnapshot("monday", "src")
	env.Eventually("the restore waits until the snapshot is taken", func() error {
		if env.CountEvents("back", "SnapshotNotReady") == 0 {
			return fmt.Errorf("it does not say so: %v", env.Events("back"))
		}
		return nil
	})
	taken.Release()
	env.WaitSnapshot("monday")
	ready := time.Now()
	env.WaitBound("back") // without a back-off's end: see noBackOff
	logDelays(t, env, ready, "the snapshot was seen ready", "back")
	sameContent(t, env, "back", "src")
	if n := env.CountEvents("back", "SnapshotNotFound"); n != 1 {
		t.Errorf("it said %d times that the snapshot is not there", n)
	}
}

func restoreRefused(t *testing.T, env *kit.Env) {
	withSnapshot(t, env)
	env.Create(env.Claim("small", kit.RestoreOf("monday"), kit.Size("512Mi")))
	env.Eventually("a claim that is too small is refused", func() error {
		return heard(env, "small", told{"Warning", "RestoreTooSmall",
			`restore needs at least 1Gi: VolumeSnapshot "monday" has that restoreSize, this claim asks for 512Mi; create the claim again with spec.resources.requests.storage: 1Gi`})
	})

	// A snapshot that another driver holds.
	content := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
		"metadata": map[string]any{"name": env.Namespace + "-other"},
		"spec": map[string]any{
			"driver": "other.example.com", "deletionPolicy": "Retain",
			"source":            map[string]any{"snapshotHandle": "theirs"},
			"volumeSnapshotRef": map[string]any{"namespace": env.Namespace, "name": "other"},
		},
	}}
	if _, err := env.Contents().Create(env.Ctx, content, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Contents().Delete(env.Ctx, content.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	env.SnapshotObject(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
		"metadata": map[string]any{"namespace": env.Namespace, "name": "other"},
		"spec":     map[string]any{"source": map[string]any{"volumeSnapshotContentName": content.GetName()}},
	}})
	// Nobody runs the other driver's snapshotter, so the test says what that would.
	patch := []byte(`{"status":{"readyToUse":true,"snapshotHandle":"theirs","restoreSize":1073741824}}`)
	env.Eventually("the other driver's snapshot is ready", func() error {
		_, err := env.Contents().Patch(env.Ctx, content.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	})
	env.WaitSnapshot("other")
	env.Create(env.Claim("foreign", kit.RestoreOf("other")))
	env.Eventually("another driver's snapshot is refused", func() error {
		return heard(env, "foreign", told{"Warning", "SnapshotUnusable", fmt.Sprintf(
			`cannot restore VolumeSnapshot "other": driver "other.example.com" holds it, this claim's class belongs to driver %q; use a class of the snapshot's driver`, env.DriverName)})
	})

	if n := len(env.Faults.Calls("CreateVolume")); n != 1 {
		t.Errorf("the driver was asked for %d volumes, want that of the source only", n)
	}
	if protectedSnapshot(env, "monday") || protectedSnapshot(env, "other") {
		t.Error("a snapshot is protected for a claim that was refused")
	}
}

func restoreConverted(t *testing.T, env *kit.Env) {
	withSnapshot(t, env)
	content, _, _ := unstructured.NestedString(env.Snapshot("monday").Object, "status", "boundVolumeSnapshotContentName")
	env.Create(env.Claim("block", kit.RestoreOf("monday"), kit.Block()))
	env.Eventually("another volumeMode is refused", func() error {
		return heard(env, "block", told{"Warning", "RestoreVolumeModeMismatch", fmt.Sprintf(
			`restore needs volumeMode Filesystem: VolumeSnapshot "monday" was taken of such a volume, this claim asks for Block; create the claim again with spec.volumeMode: Filesystem, or have an administrator set annotation snapshot.storage.kubernetes.io/allow-volume-mode-change="true" on VolumeSnapshotContent %q (it is absent)`, content)})
	})
	if n := len(env.Faults.Calls("CreateVolume")); n != 1 {
		t.Errorf("the driver was asked for %d volumes, want that of the source only", n)
	}
	patch := []byte(`{"metadata":{"annotations":{"snapshot.storage.kubernetes.io/allow-volume-mode-change":"true"}}}`)
	if _, err := env.Contents().Patch(env.Ctx, content, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	// The demo driver does not convert, and says so: it was asked.
	env.Eventually("the driver is asked", func() error {
		calls := env.Faults.Calls("CreateVolume")
		last, _ := calls[len(calls)-1].Request.(*csi.CreateVolumeRequest)
		if last.GetVolumeContentSource().GetSnapshot() == nil || last.GetVolumeCapabilities()[0].GetBlock() == nil {
			return fmt.Errorf("its last call was %v", last)
		}
		return nil
	})
	env.Delete("block")
	env.WaitGone("block")
}

func snapshotHeld(t *testing.T, env *kit.Env) {
	withSnapshot(t, env)
	held := env.Faults.On("CreateVolume").Gate()
	env.Create(env.Claim("back", kit.RestoreOf("monday")))
	env.Eventually("the snapshot is protected", func() error {
		if !protectedSnapshot(env, "monday") {
			return fmt.Errorf("its finalizers are %v", env.Snapshot("monday").GetFinalizers())
		}
		return nil
	})
	env.DeleteSnapshot("monday")
	env.Eventually("the snapshot says why it does not go", func() error {
		if n := env.SnapshotEvents("monday", "SnapshotHeld"); n != 1 {
			return fmt.Errorf("it said so %d times", n)
		}
		return nil
	})
	// Who comes now is too late.
	env.Create(env.Claim("late", kit.RestoreOf("monday")))
	env.Eventually("a later claim is refused", func() error {
		return heard(env, "late", told{"Warning", "SnapshotDeleting",
			`cannot restore VolumeSnapshot "monday": it is being deleted; create the claim again with another snapshot`})
	})
	held.Release()
	env.WaitBound("back")
	sameContent(t, env, "back", "src")
	env.Delete("late")
	snapshotGone(env, "monday")
}

func snapshotOrphaned(t *testing.T, env *kit.Env) {
	p := withSnapshot(t, env)
	env.TakeSnapshot("tuesday", "src")
	env.WaitSnapshot("tuesday")
	hanging := env.Faults.On("CreateVolume").Next(1).HangUntilReleased()
	env.Create(env.Claim("back", kit.RestoreOf("monday")))
	env.Eventually("the snapshot is protected", func() error {
		if !protectedSnapshot(env, "monday") || len(env.Faults.Calls("CreateVolume")) < 2 {
			return fmt.Errorf("its finalizers are %v", env.Snapshot("monday").GetFinalizers())
		}
		return nil
	})
	p.Kill()
	hanging.Release()
	env.Delete("back")
	env.DeleteSnapshot("monday")
	// What the incumbent leaves behind if it is killed.
	env.ChangeSnapshot("tuesday", func(s *unstructured.Unstructured) {
		s.SetFinalizers(append(s.GetFinalizers(), wellknown.SnapshotProtection))
	})
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.WaitGone("back")
	snapshotGone(env, "monday")
	snapshotFree(env, "tuesday")
}

func restoreDeleted(t *testing.T, env *kit.Env) {
	withSnapshot(t, env)
	env.Faults.On("CreateVolume").Next(1).LoseReplyAs(codes.DeadlineExceeded, "too late")
	unavailable := env.Faults.On("CreateVolume").Fail(codes.Unavailable, "away")
	env.Create(env.Claim("back", kit.RestoreOf("monday")))
	env.Eventually("the reply got lost", func() error {
		if unavailable.Hits() == 0 {
			return fmt.Errorf("%d calls", len(env.Faults.Calls("CreateVolume")))
		}
		return nil
	})
	env.Delete("back")
	env.DeleteSnapshot("monday")
	unavailable.Remove()
	env.WaitGone("back")
	snapshotGone(env, "monday") // and the books say that no volume is left
}

func restoreUnprotected(t *testing.T, env *kit.Env, missing string) {
	env.AllowForbidden()
	p := withSnapshot(t, env)
	env.Create(env.Claim("back", kit.RestoreOf("monday")))
	env.WaitBound("back")
	sameContent(t, env, "back", "src")
	if n := env.CountEvents("back", "SnapshotNotProtected"); n != 1 {
		t.Errorf("it said %d times that the snapshot is not protected", n)
	}
	if want := fmt.Sprintf("missing=%q", missing); !strings.Contains(p.Log(), want) {
		t.Errorf("the log does not name the missing verb: %s", want)
	}
}

func manyRestores(t *testing.T, env *kit.Env) {
	const many = 40
	withSnapshot(t, env)
	var claims []*v1.PersistentVolumeClaim
	var names []string
	for n := range many {
		names = append(names, fmt.Sprintf("back-%02d", n))
		claims = append(claims, env.Claim(names[n], kit.RestoreOf("monday")))
	}
	env.Create(claims...)
	env.WaitBound(names...)
	snapshotFree(env, "monday")
	content, _, _ := unstructured.NestedString(env.Snapshot("monday").Object, "status", "boundVolumeSnapshotContentName")
	writes, reads := 0, 0
	for _, line := range requests(t, env) {
		switch {
		case line.Object.Resource == "volumesnapshots" && line.Object.Namespace == env.Namespace && line.Verb == "update":
			writes++
		case line.Object.Resource == "volumesnapshotcontents" && line.Object.Name == content:
			reads++
		}
	}
	// On, off, and perhaps once more if the sweep came between.
	if writes < 2 || writes > 6 {
		t.Errorf("the snapshot was written %d times", writes)
	}
	if reads > many/2 {
		t.Errorf("its content was read %d times for %d claims", reads, many)
	}
	t.Logf("%d claims from one snapshot: %d writes to it, %d reads of its content", many, writes, reads)
	for _, claim := range names {
		if n := env.CountEvents(claim, "ProvisioningFailed"); n > 0 {
			t.Errorf("claim %s failed %d times", claim, n)
		}
	}
}
