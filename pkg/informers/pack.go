package informers

import (
	"fmt"
	"math"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// A cluster may have tens of thousands of claims and PVs of other drivers. Any of them
// may be named as a source, or stand in the way, so they are kept; but packed, and
// only what could be asked of them.

// packed is a foreign claim or PV as the caches keep it: in a third of the memory.
type packed struct {
	// ObjectMeta is empty and shared: it makes this a metav1.Object for the caches,
	// which ask for nothing but what is answered below.
	*metav1.ObjectMeta

	volume                        bool
	namespace, name, uid, version uint8 // how long they are, in this order in data
	data                          string
}

func (p *packed) at(from, length uint8, more ...uint8) string {
	begin := int(from)
	for _, m := range more {
		begin += int(m)
	}
	return p.data[begin : begin+int(length)]
}

// GetNamespace implements metav1.Object.
func (p *packed) GetNamespace() string { return p.at(0, p.namespace) }

// GetName implements metav1.Object.
func (p *packed) GetName() string { return p.at(p.namespace, p.name) }

// GetUID implements metav1.Object.
func (p *packed) GetUID() types.UID { return types.UID(p.at(p.namespace, p.uid, p.name)) }

// GetResourceVersion implements metav1.Object.
func (p *packed) GetResourceVersion() string {
	return p.at(p.namespace, p.version, p.name, p.uid)
}

// message is what the API's types have for protobuf.
type message interface {
	Size() int
	MarshalToSizedBuffer(dAtA []byte) (int, error)
}

// packer packs what belongs to other drivers.
type packer struct {
	driver string
	inTree InTree
	record wellknown.Record
	none   *metav1.ObjectMeta
}

func newPacker(driver string, inTree InTree) packer {
	return packer{driver, inTree, wellknown.RecordOf(driver), &metav1.ObjectMeta{}}
}

// transform is called with every object before it is stored, and drops what nobody
// reads. An object that is no API object (a tombstone) passes as it is.
func (p packer) transform(obj any) (any, error) {
	switch object := obj.(type) {
	case *v1.PersistentVolumeClaim:
		if p.foreignClaim(object) {
			return p.packClaim(object), nil
		}
	case *v1.PersistentVolume:
		if p.foreignVolume(object) {
			return p.packVolume(object), nil
		}
	case *v1.Node:
		return packNode(object), nil
	case *storagev1.CSINode:
		return p.packCSINode(object), nil
	}
	if object, ok := obj.(metav1.Object); ok && object.GetManagedFields() != nil {
		object.SetManagedFields(nil)
	}
	return obj, nil
}

// foreignClaim: nothing is to be done, or was begun, for the claim, and it is no source
// of a clone that is being made.
func (p packer) foreignClaim(claim *v1.PersistentVolumeClaim) bool {
	for _, key := range []string{wellknown.StorageProvisioner, wellknown.BetaStorageProvisioner, wellknown.MigratedTo} {
		if p.known(claim.Annotations[key]) {
			return false
		}
	}
	return !slices.ContainsFunc(claim.Finalizers, func(finalizer string) bool {
		return finalizer == wellknown.CloningProtection || p.record.Is(finalizer)
	})
}

// foreignVolume: the PV is another driver's, whoever made it.
func (p packer) foreignVolume(pv *v1.PersistentVolume) bool {
	return (pv.Spec.CSI == nil || pv.Spec.CSI.Driver != p.driver) && !p.inTree.Has(pv) &&
		!p.known(pv.Annotations[wellknown.ProvisionedBy]) && pv.Annotations[wellknown.MigratedTo] != p.driver
}

// known says whether a provisioner is the driver, or the plugin that it took over.
func (p packer) known(provisioner string) bool {
	return provisioner == p.driver || p.inTree.Is(provisioner)
}

// packClaim keeps what the rules ask of a source.
func (p packer) packClaim(claim *v1.PersistentVolumeClaim) any {
	kept := &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: claim.DeletionTimestamp},
		Spec: v1.PersistentVolumeClaimSpec{
			VolumeName: claim.Spec.VolumeName, StorageClassName: claim.Spec.StorageClassName, VolumeMode: claim.Spec.VolumeMode,
			Resources: v1.VolumeResourceRequirements{Requests: claim.Spec.Resources.Requests},
		},
		Status: v1.PersistentVolumeClaimStatus{Phase: claim.Status.Phase, Capacity: claim.Status.Capacity},
	}
	if class, found := claim.Annotations[wellknown.BetaStorageClass]; found {
		kept.Annotations = map[string]string{wellknown.BetaStorageClass: class}
	}
	for _, c := range claim.Status.Conditions {
		if c.Type == v1.PersistentVolumeClaimUnused {
			kept.Status.Conditions = append(kept.Status.Conditions, c)
		}
	}
	return p.pack(claim, kept, false)
}

// packVolume keeps what the rules ask of a source's PV, and the guards before a
// volume is deleted.
func (p packer) packVolume(pv *v1.PersistentVolume) any {
	kept := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: pv.DeletionTimestamp},
		Spec:       v1.PersistentVolumeSpec{Capacity: pv.Spec.Capacity},
		Status:     v1.PersistentVolumeStatus{Phase: pv.Status.Phase},
	}
	if back := pv.Spec.ClaimRef; back != nil {
		kept.Spec.ClaimRef = &v1.ObjectReference{Namespace: back.Namespace, Name: back.Name, UID: back.UID}
	}
	if csi := pv.Spec.CSI; csi != nil {
		kept.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: csi.Driver}
		return p.pack(pv, kept, true)
	}
	kept.Spec.PersistentVolumeSource = pv.Spec.PersistentVolumeSource
	if by, found := pv.Annotations[wellknown.ProvisionedBy]; found {
		kept.Annotations = map[string]string{wellknown.ProvisionedBy: by}
	}
	return p.pack(pv, kept, true)
}

// pack returns the packed form of kept, or the object itself if it has none.
func (p packer) pack(object metav1.Object, kept message, volume bool) any {
	object.SetManagedFields(nil)
	head := make([]string, 0, 4)
	length := 0
	for _, text := range []string{object.GetNamespace(), object.GetName(), string(object.GetUID()), object.GetResourceVersion()} {
		if len(text) > math.MaxUint8 {
			return object
		}
		head, length = append(head, text), length+len(text)
	}
	data := make([]byte, length+kept.Size())
	if n, err := kept.MarshalToSizedBuffer(data[length:]); err != nil || n != len(data)-length {
		return object
	}
	copy(data, strings.Join(head, ""))
	return &packed{
		ObjectMeta: p.none, volume: volume, data: string(data),
		namespace: uint8(len(head[0])), name: uint8(len(head[1])), uid: uint8(len(head[2])), version: uint8(len(head[3])), //nolint:gosec // see above
	}
}

// unpack makes an API object of a packed one; everything else passes as it is.
func unpack(obj any) any {
	switch object := obj.(type) {
	case *packed:
		return object.unpack()
	case cache.DeletedFinalStateUnknown:
		object.Obj = unpack(object.Obj)
		return object
	}
	return obj
}

func (p *packed) unpack() any {
	var object interface {
		metav1.Object
		Unmarshal(dAtA []byte) error
	} = &v1.PersistentVolumeClaim{}
	if p.volume {
		object = &v1.PersistentVolume{}
	}
	head := int(p.namespace) + int(p.name) + int(p.uid) + int(p.version)
	if err := object.Unmarshal([]byte(p.data[head:])); err != nil {
		panic(fmt.Errorf("reading what this process has packed itself: %w", err))
	}
	object.SetNamespace(p.GetNamespace())
	object.SetName(p.GetName())
	object.SetUID(p.GetUID())
	object.SetResourceVersion(p.GetResourceVersion())
	return object
}
