package source

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// VolumeSnapshot is what a VolumeSnapshot says that matters for restoring it
// (snapshot.storage.k8s.io/v1).
type VolumeSnapshot struct {
	metav1.ObjectMeta
	// Content is the name of the VolumeSnapshotContent that it is bound to; empty if it
	// is bound to none yet.
	Content string
	// Ready: the snapshot can be restored.
	Ready bool
	// RestoreSize is the least size of a volume made from it; nil if nobody says.
	RestoreSize *resource.Quantity
	// Trouble is what the snapshotter says that is wrong with it; mostly empty.
	Trouble string
}

// SnapshotContent is what a VolumeSnapshotContent says that matters for restoring its
// snapshot.
type SnapshotContent struct {
	Name string
	// Driver that holds the snapshot, and Handle under which it does; the latter may
	// not be known yet.
	Driver string
	Handle string
	// Of is the VolumeSnapshot that it belongs to.
	Of v1.ObjectReference
	// Mode of the volume that the snapshot was taken of; nil if nobody says.
	Mode *v1.PersistentVolumeMode
	// AllowModeChange is what the annotation says by which an administrator lets the
	// snapshot be restored in another mode; nil if it is absent (Kubernetes, "Convert
	// the volume mode of a snapshot").
	AllowModeChange *string
}

// SnapshotOf reads a VolumeSnapshot. What cannot be read is as if it was not there yet.
func SnapshotOf(object *unstructured.Unstructured) *VolumeSnapshot {
	var o struct {
		Status struct {
			Content     *string            `json:"boundVolumeSnapshotContentName"`
			Ready       *bool              `json:"readyToUse"`
			RestoreSize *resource.Quantity `json:"restoreSize"`
			Error       struct {
				Message *string `json:"message"`
			} `json:"error"`
		} `json:"status"`
	}
	read(object, &o)
	return &VolumeSnapshot{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID(),
			ResourceVersion: object.GetResourceVersion(), DeletionTimestamp: object.GetDeletionTimestamp(),
			Finalizers: object.GetFinalizers(),
		},
		Content:     ptr.Deref(o.Status.Content, ""),
		Ready:       ptr.Deref(o.Status.Ready, false),
		RestoreSize: o.Status.RestoreSize,
		Trouble:     ptr.Deref(o.Status.Error.Message, ""),
	}
}

// ContentOf reads a VolumeSnapshotContent.
func ContentOf(object *unstructured.Unstructured) *SnapshotContent {
	var o struct {
		Spec struct {
			Driver string                   `json:"driver"`
			Of     v1.ObjectReference       `json:"volumeSnapshotRef"`
			Mode   *v1.PersistentVolumeMode `json:"sourceVolumeMode"`
		} `json:"spec"`
		Status struct {
			Handle *string `json:"snapshotHandle"`
		} `json:"status"`
	}
	read(object, &o)
	content := &SnapshotContent{
		Name: object.GetName(), Driver: o.Spec.Driver, Handle: ptr.Deref(o.Status.Handle, ""), Of: o.Spec.Of, Mode: o.Spec.Mode,
	}
	if allowed, found := object.GetAnnotations()[wellknown.AllowModeChange]; found {
		content.AllowModeChange = &allowed
	}
	return content
}

// read fills the parts of an object. Parts of one that does not keep to its schema stay
// empty.
func read(object *unstructured.Unstructured, parts any) {
	_ = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, parts)
}

// belongsTo says whether the content is that of the snapshot.
func (c *SnapshotContent) belongsTo(s *VolumeSnapshot) bool {
	return c.Of.UID == s.UID && c.Of.Name == s.Name && c.Of.Namespace == s.Namespace
}
