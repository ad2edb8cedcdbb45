package protection

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Contents tells of VolumeSnapshots what their VolumeSnapshotContents say.
type Contents interface {
	// DriverOf returns the driver that holds the snapshot; "" if nobody does, because it
	// is bound to nothing or that is gone.
	DriverOf(ctx context.Context, snapshot *unstructured.Unstructured) (string, error)
}

// snapshots are the VolumeSnapshots that claims are restored from.
type snapshots struct {
	client   dynamic.Interface
	caches   *informers.Set
	contents Contents
	driver   string
}

// Snapshots returns the VolumeSnapshots that claims are restored from; the caches hold
// them.
func Snapshots(client dynamic.Interface, caches *informers.Set, contents Contents, driver string) Sources {
	return snapshots{client, caches, contents, driver}
}

func (s snapshots) Informer() cache.SharedIndexInformer { return s.caches.Snapshots }

func (snapshots) Finalizer() string { return wellknown.SnapshotProtection }

func (snapshots) Words() (protection, source string) { return "protection", "VolumeSnapshot" }

// MayFail: the incumbent's older RBAC lets it only read snapshots, and its restores
// work all the same.
func (snapshots) MayFail() bool { return true }

func (s snapshots) Get(namespace, name string) metav1.Object {
	snapshot := s.caches.Snapshot(namespace, name)
	if snapshot == nil {
		return nil // and not an interface that holds nil
	}
	return snapshot
}

func (s snapshots) Protected() []metav1.Object {
	var list []metav1.Object
	for _, snapshot := range s.caches.ProtectedSnapshots() {
		list = append(list, snapshot)
	}
	return list
}

func (s snapshots) Clones(namespace, name string) []*v1.PersistentVolumeClaim {
	return s.caches.RestoresOf(namespace, name)
}

// Ours: the driver holds the snapshot; or nobody does, and it is being deleted, so that
// there is nothing left to be protected.
func (s snapshots) Ours(ctx context.Context, object metav1.Object) (bool, error) {
	snapshot, ok := object.(*unstructured.Unstructured)
	if !ok {
		return false, nil
	}
	driver, err := s.contents.DriverOf(ctx, snapshot)
	return err == nil && (driver == s.driver || driver == "" && snapshot.GetDeletionTimestamp() != nil), err
}

// Known: which driver holds a snapshot stands in its content, which is not watched. Only
// claims of this driver are on record.
func (s snapshots) Known(source metav1.Object) bool {
	return len(s.Clones(source.GetNamespace(), source.GetName())) > 0
}

// Write updates the live snapshot: RBAC for the incumbent grants update, and not patch.
func (s snapshots) Write(ctx context.Context, source metav1.Object, present bool) (metav1.Object, error) {
	client := s.client.Resource(informers.VolumeSnapshots()).Namespace(source.GetNamespace())
	var after *unstructured.Unstructured
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		live, err := client.Get(ctx, source.GetName(), metav1.GetOptions{})
		switch {
		case err != nil:
			return err
		case live.GetUID() != source.GetUID():
			return apierrors.NewNotFound(informers.VolumeSnapshots().GroupResource(), source.GetName())
		case slices.Contains(live.GetFinalizers(), wellknown.SnapshotProtection) == present:
			after = live
			return nil
		case present:
			live.SetFinalizers(append(live.GetFinalizers(), wellknown.SnapshotProtection))
		default:
			live.SetFinalizers(slices.DeleteFunc(live.GetFinalizers(), func(f string) bool { return f == wellknown.SnapshotProtection }))
		}
		after, err = client.Update(ctx, live, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("updating it: %w", err)
	}
	return after, nil
}

func (snapshots) Held(source metav1.Object, first string) (v1.ObjectReference, verdict.Verdict) {
	about := v1.ObjectReference{
		APIVersion: informers.VolumeSnapshots().GroupVersion().String(), Kind: "VolumeSnapshot",
		Namespace: source.GetNamespace(), Name: source.GetName(), UID: source.GetUID(), ResourceVersion: source.GetResourceVersion(),
	}
	return about, verdict.Waiting(verdict.SnapshotHeld,
		"deletion of VolumeSnapshot %q waits for claims being restored from it (first: %q); nothing to do", source.GetName(), first)
}
