package informers

import (
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// All look-ups below read the caches. What they return is shared: it must not
// be changed. PVs of the in-tree plugin that the driver took over are returned as
// the driver's; see InTree.

// Claim returns the claim of that name, nil if there is none.
func (s *Set) Claim(namespace, name string) *v1.PersistentVolumeClaim {
	return get[*v1.PersistentVolumeClaim](s.Claims, namespace+"/"+name)
}

// EachOwnClaim calls f with every claim that was given to the driver, is on record, or
// protected.
func (s *Set) EachOwnClaim(f func(*v1.PersistentVolumeClaim)) {
	for _, obj := range s.OwnClaims.GetStore().List() {
		if claim, ok := obj.(*v1.PersistentVolumeClaim); ok {
			f(claim)
		}
	}
}

// PV returns the PersistentVolume of that name, nil if there is none.
func (s *Set) PV(name string) *v1.PersistentVolume {
	pv := get[*v1.PersistentVolume](s.PVs, name)
	if pv == nil {
		return nil
	}
	return s.inTree.Seen(pv)
}

// OwnVolumes returns all PersistentVolumes of the driver: for what is rare.
func (s *Set) OwnVolumes() []*v1.PersistentVolume {
	objs := s.OwnPVs.GetStore().List()
	list := make([]*v1.PersistentVolume, 0, len(objs))
	for _, obj := range objs {
		if pv, ok := obj.(*v1.PersistentVolume); ok {
			list = append(list, s.inTree.Seen(pv))
		}
	}
	return list
}

// Class returns the StorageClass of that name, nil if there is none.
func (s *Set) Class(name string) *storagev1.StorageClass {
	return get[*storagev1.StorageClass](s.Classes, name)
}

// AllClasses returns all StorageClasses, of all drivers.
func (s *Set) AllClasses() []*storagev1.StorageClass {
	objs := s.Classes.GetStore().List()
	list := make([]*storagev1.StorageClass, 0, len(objs))
	for _, obj := range objs {
		if class, ok := obj.(*storagev1.StorageClass); ok {
			list = append(list, class)
		}
	}
	return list
}

// AttributesClass returns the VolumeAttributesClass of that name, nil if there is none
// or they are not watched.
func (s *Set) AttributesClass(name string) *storagev1.VolumeAttributesClass {
	if s.AttributesClasses == nil {
		return nil
	}
	return get[*storagev1.VolumeAttributesClass](s.AttributesClasses, name)
}

// ClonesOf returns the claims on record that are clones of the source claim.
func (s *Set) ClonesOf(namespace, name string) []*v1.PersistentVolumeClaim {
	return find[*v1.PersistentVolumeClaim](s.Claims, byCloneSource, namespace+"/"+name)
}

// RestoresOf returns the claims on record that are restored from the VolumeSnapshot.
func (s *Set) RestoresOf(namespace, name string) []*v1.PersistentVolumeClaim {
	return find[*v1.PersistentVolumeClaim](s.Claims, bySnapshot, namespace+"/"+name)
}

// Snapshot returns the VolumeSnapshot of that name, nil if there is none or they are not
// watched.
func (s *Set) Snapshot(namespace, name string) *unstructured.Unstructured {
	if s.Snapshots == nil {
		return nil
	}
	return get[*unstructured.Unstructured](s.Snapshots, namespace+"/"+name)
}

// ProtectedSnapshots returns the VolumeSnapshots that carry our finalizer for them.
func (s *Set) ProtectedSnapshots() []*unstructured.Unstructured {
	if s.Snapshots == nil {
		return nil
	}
	return find[*unstructured.Unstructured](s.Snapshots, byProtection, wellknown.SnapshotProtection)
}

// ClaimsOfVolumeName returns the claims on record that pin the volume name.
func (s *Set) ClaimsOfVolumeName(name string) []*v1.PersistentVolumeClaim {
	return find[*v1.PersistentVolumeClaim](s.Claims, byVolumeName, name)
}

// ProtectedSources returns the claims that carry the cloning protection.
func (s *Set) ProtectedSources() []*v1.PersistentVolumeClaim {
	return find[*v1.PersistentVolumeClaim](s.Claims, byProtection, wellknown.CloningProtection)
}

// PVsOfHandle returns the driver's PVs with that volume handle.
func (s *Set) PVsOfHandle(handle string) []*v1.PersistentVolume {
	return s.seen(find[*v1.PersistentVolume](s.PVs, byHandle, handle))
}

// PVsOfClaim returns the driver's PVs whose claimRef has the uid.
func (s *Set) PVsOfClaim(uid types.UID) []*v1.PersistentVolume {
	return s.seen(find[*v1.PersistentVolume](s.PVs, byClaim, string(uid)))
}

// PVsPerhapsOfHandle is PVsOfHandle with those PVs of the in-tree plugin, too, that do
// not tell enough to exclude it.
func (s *Set) PVsPerhapsOfHandle(handle string) []*v1.PersistentVolume {
	return append(s.PVsOfHandle(handle), s.seen(find[*v1.PersistentVolume](s.PVs, byKey, s.inTree.Key(handle)))...)
}

func (s *Set) seen(pvs []*v1.PersistentVolume) []*v1.PersistentVolume {
	for i, pv := range pvs {
		pvs[i] = s.inTree.Seen(pv)
	}
	return pvs
}

// AttachmentsOf returns the attachments of the PV of that name; none if
// attachments are not watched.
func (s *Set) AttachmentsOf(pv string) []*storagev1.VolumeAttachment {
	if s.Attachments == nil {
		return nil
	}
	return find[*storagev1.VolumeAttachment](s.Attachments, byVolume, pv)
}

// GrantsIn returns the ReferenceGrants of the namespace; none if they are not
// watched, or not served.
func (s *Set) GrantsIn(namespace string) []*unstructured.Unstructured {
	if s.Grants == nil {
		return nil
	}
	return find[*unstructured.Unstructured](s.Grants, cache.NamespaceIndex, namespace)
}

func get[T any](informer cache.SharedIndexInformer, key string) T {
	var none T
	obj, found, err := informer.GetStore().GetByKey(key)
	if err != nil || !found {
		return none // GetByKey of a store never fails
	}
	object, ok := obj.(T)
	if !ok {
		return none
	}
	return object
}

func find[T any](informer cache.SharedIndexInformer, indexName, key string) []T {
	objs, err := informer.GetIndexer().ByIndex(indexName, key)
	if err != nil {
		return nil // only for an index that does not exist, and New adds them all
	}
	list := make([]T, 0, len(objs))
	for _, obj := range objs {
		if object, ok := obj.(T); ok {
			list = append(list, object)
		}
	}
	return list
}

// Recorded returns how many claims are on record.
func (s *Set) Recorded() int {
	count := 0
	for _, name := range s.Claims.GetIndexer().ListIndexFuncValues(byVolumeName) {
		count += len(s.ClaimsOfVolumeName(name))
	}
	return count
}
