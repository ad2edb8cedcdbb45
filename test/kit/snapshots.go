package kit

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// InstallSnapshots installs the CRDs of VolumeSnapshots and starts the snapshot
// controller, on a cluster that was started without. Only for tests with a cluster of
// their own (On): other tests count on the absence of the kinds.
func (e *Env) InstallSnapshots() {
	e.t.Helper()
	if e.world == shared {
		e.t.Fatal("installing the VolumeSnapshot CRDs: other tests use this cluster; start one with kit.StartCluster")
	}
	root, err := repo.Root()
	if err != nil {
		e.t.Fatal(err)
	}
	crds, err := repo.SnapshotCRDs(root)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.Cluster.InstallSnapshots(e.Ctx, crds); err != nil {
		e.t.Fatal(err)
	}
}

// StartSnapshotter starts the real csi-snapshotter beside the test's driver, and makes
// a VolumeSnapshotClass of the name of the test's StorageClass. At the end of the test all
// snapshots of its namespaces are deleted; then nothing of them may be left.
func (e *Env) StartSnapshotter() {
	e.t.Helper()
	kubeconfig, err := e.Cluster.Kubeconfig("csi-snapshotter-"+e.Namespace, "system:masters")
	if err != nil {
		e.t.Fatal(err)
	}
	proc, err := e.Cluster.Group().Start(process.Spec{
		Name: "csi-snapshotter", Path: e.Cluster.Binary("csi-snapshotter"), Dir: e.dir, Log: filepath.Join(e.dir, "csi-snapshotter.log"),
		Args: []string{
			"--kubeconfig=" + kubeconfig, "--csi-address=" + e.Driver.Socket, "--timeout=10s", "--v=4",
			"--retry-interval-start=200ms", "--retry-interval-max=2s",
		},
	})
	if err != nil {
		e.t.Fatal(err)
	}
	class := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": snapshots().GroupVersion().String(), "kind": "VolumeSnapshotClass",
		"metadata": map[string]any{"name": e.Class},
		"driver":   e.DriverName, "deletionPolicy": "Delete",
	}}
	if _, err := e.dynamic().Resource(snapshotClasses()).Create(e.Ctx, class, metav1.CreateOptions{}); err != nil {
		e.t.Fatalf("creating VolumeSnapshotClass %q: %v", e.Class, err)
	}
	e.t.Cleanup(func() {
		if err := e.removeSnapshots(); err != nil {
			e.t.Errorf("removing the snapshots: %v", err)
		}
		if err := proc.Stop(stopGrace); err != nil {
			e.t.Errorf("stopping the snapshotter: %v", err)
		}
	})
}

// TakeSnapshot takes a snapshot of a claim's volume, and does not wait for it.
func (e *Env) TakeSnapshot(name, claim string) {
	e.t.Helper()
	e.SnapshotObject(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": snapshots().GroupVersion().String(), "kind": "VolumeSnapshot",
		"metadata": map[string]any{"namespace": e.Namespace, "name": name},
		"spec": map[string]any{
			"volumeSnapshotClassName": e.Class,
			"source":                  map[string]any{"persistentVolumeClaimName": claim},
		},
	}})
}

// MadeSnapshot makes a snapshot in the driver of the volume of a claim, and the two
// objects for it that are ready at once: without a snapshotter and the snapshot controller,
// of which nobody then has a finalizer on it.
func (e *Env) MadeSnapshot(name, claim string) {
	e.t.Helper()
	connection, err := e.Driver.Dial()
	if err != nil {
		e.t.Fatal(err)
	}
	defer connection.Close()
	pv := e.PV(claim)
	made, err := csi.NewControllerClient(connection).CreateSnapshot(e.Ctx, &csi.CreateSnapshotRequest{
		Name: e.Namespace + "-" + name, SourceVolumeId: pv.Spec.CSI.VolumeHandle,
	})
	if err != nil {
		e.t.Fatalf("making snapshot %q in the driver: %v", name, err)
	}
	handle, size, bound := made.GetSnapshot().GetSnapshotId(), made.GetSnapshot().GetSizeBytes(), e.Namespace+"-"+name
	e.SnapshotObject(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": snapshots().GroupVersion().String(), "kind": "VolumeSnapshot",
		"metadata": map[string]any{"namespace": e.Namespace, "name": name},
		"spec":     map[string]any{"source": map[string]any{"volumeSnapshotContentName": bound}},
	}})
	content := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": snapshots().GroupVersion().String(), "kind": "VolumeSnapshotContent",
		"metadata": map[string]any{"name": bound},
		"spec": map[string]any{
			"driver": e.DriverName, "deletionPolicy": "Retain", "source": map[string]any{"snapshotHandle": handle},
			"volumeSnapshotRef": map[string]any{"namespace": e.Namespace, "name": name, "uid": string(e.Snapshot(name).GetUID())},
		},
	}}
	if _, err := e.Contents().Create(e.Ctx, content, metav1.CreateOptions{}); err != nil {
		e.t.Fatalf("creating VolumeSnapshotContent %q: %v", bound, err)
	}
	e.t.Cleanup(func() {
		if err := e.Contents().Delete(e.Ctx, bound, metav1.DeleteOptions{}); err != nil {
			e.t.Errorf("deleting VolumeSnapshotContent %q: %v", bound, err)
		}
	})
	patch := fmt.Appendf(nil, `{"status":{"readyToUse":true,"snapshotHandle":%q,"restoreSize":%d}}`, handle, size)
	if _, err := e.Contents().Patch(e.Ctx, bound, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		e.t.Fatalf("VolumeSnapshotContent %q: %v", bound, err)
	}
	patch = fmt.Appendf(nil, `{"status":{"readyToUse":true,"boundVolumeSnapshotContentName":%q,"restoreSize":"%d"}}`, bound, size)
	if _, err := e.snapshots(e.Namespace).Patch(e.Ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		e.t.Fatalf("VolumeSnapshot %q: %v", name, err)
	}
}

// InstallSnapshotCRDs is InstallSnapshots without the snapshot controller.
func (w *World) InstallSnapshotCRDs(t *testing.T) {
	t.Helper()
	crds, err := repo.SnapshotCRDs(w.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Cluster.InstallCRDs(t.Context(), crds); err != nil {
		t.Fatal(err)
	}
}

// SnapshotObject creates any VolumeSnapshot.
func (e *Env) SnapshotObject(snapshot *unstructured.Unstructured) {
	e.t.Helper()
	if _, err := e.snapshots(snapshot.GetNamespace()).Create(e.Ctx, snapshot, metav1.CreateOptions{}); err != nil {
		e.t.Fatalf("creating VolumeSnapshot %s/%s: %v", snapshot.GetNamespace(), snapshot.GetName(), err)
	}
}

// WaitSnapshot waits until the snapshot is ready to be restored.
func (e *Env) WaitSnapshot(name string) {
	e.t.Helper()
	e.Eventually(fmt.Sprintf("snapshot %q is ready", name), func() error {
		snapshot, err := e.snapshots(e.Namespace).Get(e.Ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if ready, _, _ := unstructured.NestedBool(snapshot.Object, "status", "readyToUse"); !ready {
			return fmt.Errorf("its status is %v", snapshot.Object["status"])
		}
		return nil
	})
}

// Snapshot returns the snapshot; nil if it is gone.
func (e *Env) Snapshot(name string) *unstructured.Unstructured {
	e.t.Helper()
	snapshot, err := e.snapshots(e.Namespace).Get(e.Ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		e.t.Fatalf("reading VolumeSnapshot %q: %v", name, err)
	}
	return snapshot
}

// ChangeSnapshot changes the live snapshot.
func (e *Env) ChangeSnapshot(name string, change func(*unstructured.Unstructured)) {
	e.t.Helper()
	e.Eventually("changing snapshot "+name, func() error {
		snapshot := e.Snapshot(name)
		change(snapshot)
		_, err := e.snapshots(e.Namespace).Update(e.Ctx, snapshot, metav1.UpdateOptions{})
		return err
	})
}

// DeleteSnapshot deletes the snapshot and does not wait until it is gone.
func (e *Env) DeleteSnapshot(name string) {
	e.t.Helper()
	if err := e.snapshots(e.Namespace).Delete(e.Ctx, name, metav1.DeleteOptions{}); err != nil {
		e.t.Fatalf("deleting VolumeSnapshot %q: %v", name, err)
	}
}

// Contents returns a client of all VolumeSnapshotContents.
func (e *Env) Contents() dynamic.ResourceInterface {
	e.t.Helper()
	return e.dynamic().Resource(schema.GroupVersionResource{Group: snapshots().Group, Version: "v1", Resource: "volumesnapshotcontents"})
}

// SnapshotEvents returns the events about the snapshot.
func (e *Env) SnapshotEvents(name, reason string) int {
	e.t.Helper()
	events, err := e.eventsOf(e.Namespace, "VolumeSnapshot", name)
	if err != nil {
		e.t.Fatal(err)
	}
	count := 0
	for _, event := range events {
		if event.Reason == reason {
			count++
		}
	}
	return count
}

// removeSnapshots deletes all snapshots of the test, and waits until they are gone.
func (e *Env) removeSnapshots() error {
	var errs []error
	for _, namespace := range e.namespaces {
		client := e.snapshots(namespace)
		errs = append(errs,
			e.deleteRestores(namespace),
			client.DeleteCollection(e.Ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
			e.try(patience, func() error {
				list, err := client.List(e.Ctx, metav1.ListOptions{})
				switch {
				case err != nil:
					return err
				case len(list.Items) > 0:
					return fmt.Errorf("snapshot %q is still there: finalizers %v", list.Items[0].GetName(), list.Items[0].GetFinalizers())
				}
				return nil
			}))
	}
	errs = append(errs, e.dynamic().Resource(snapshotClasses()).Delete(e.Ctx, e.Class, metav1.DeleteOptions{}))
	return errors.Join(errs...)
}

// deleteRestores deletes the claims that wait to be restored: the snapshot controller
// keeps a snapshot as long as there is one.
func (e *Env) deleteRestores(namespace string) error {
	claims, err := e.Admin.CoreV1().PersistentVolumeClaims(namespace).List(e.Ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for _, claim := range claims.Items {
		if ref := claim.Spec.DataSourceRef; claim.Status.Phase == v1.ClaimPending && ref != nil && ref.Kind == "VolumeSnapshot" {
			errs = append(errs, e.Admin.CoreV1().PersistentVolumeClaims(namespace).Delete(e.Ctx, claim.Name, metav1.DeleteOptions{}))
		}
	}
	return errors.Join(errs...)
}

func (e *Env) snapshots(namespace string) dynamic.ResourceInterface {
	e.t.Helper()
	return e.dynamic().Resource(snapshots()).Namespace(namespace)
}

func snapshots() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshots"}
}

func snapshotClasses() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshotclasses"}
}
