package volume

import (
	"errors"
	"fmt"
	"maps"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// ErrNoVolume: the reply names no volume, so there is nothing to delete either.
var ErrNoVolume = errors.New("the driver's reply to CreateVolume names no volume (volume_id is empty); this is a fault of the driver")

// Check says whether the reply is what the request asked for: nil, ErrNoVolume,
// or an error that says what is broken; then the volume must be deleted.
//
// Rule: CSI spec, CreateVolumeResponse: capacity_bytes, content_source.
func Check(req *csi.CreateVolumeRequest, resp *csi.CreateVolumeResponse) error {
	vol := resp.GetVolume()
	if vol.GetVolumeId() == "" {
		return ErrNoVolume
	}
	asked := req.GetCapacityRange().GetRequiredBytes()
	if got := vol.GetCapacityBytes(); got != 0 && got < asked {
		return fmt.Errorf("the driver made volume %q with %d bytes, but at least %d were asked for; this is a fault of the driver", vol.GetVolumeId(), got, asked)
	}
	want, got := req.GetVolumeContentSource(), vol.GetContentSource()
	switch {
	case want == nil:
		return nil
	case got == nil:
		return fmt.Errorf("the driver made volume %q without confirming that it was copied from %s (no content_source in its reply); this is a fault of the driver", vol.GetVolumeId(), nameOf(want))
	case nameOf(want) != nameOf(got):
		return fmt.Errorf("the driver says that it copied volume %q from %s, but %s was asked for; this is a fault of the driver", vol.GetVolumeId(), nameOf(got), nameOf(want))
	}
	return nil
}

func nameOf(s *csi.VolumeContentSource) string {
	if snapshot := s.GetSnapshot(); snapshot != nil {
		return fmt.Sprintf("snapshot %q", snapshot.GetSnapshotId())
	}
	return fmt.Sprintf("volume %q", s.GetVolume().GetVolumeId())
}

// Input is everything that a PersistentVolume is made from.
type Input struct {
	// Claim that the volume was made for.
	Claim *v1.PersistentVolumeClaim
	// Class of the claim, and the name under which the claim asked for it.
	Class *storagev1.StorageClass
	// Driver is the driver's name.
	Driver string
	// Identity names this process in the volume's attributes.
	Identity string
	// Request and Response of CreateVolume; the response has passed Check.
	Request  *csi.CreateVolumeRequest
	Response *csi.CreateVolumeResponse
	// Secrets that the class names for this volume.
	Secrets secret.Refs
	// AttributesClass is the VolumeAttributesClass that the request's mutable
	// parameters are from; empty for none.
	AttributesClass string
	// ReclaimPolicy of the PV; see ReclaimPolicy.
	ReclaimPolicy v1.PersistentVolumeReclaimPolicy
	// PublishReadOnly: --controller-publish-readonly.
	PublishReadOnly bool
	// Topology: what the driver says of where the volume can be used counts.
	Topology bool
}

// Handle returns the handle of the volume that the driver has made; "" if it names none.
func (in Input) Handle() string { return in.Response.GetVolume().GetVolumeId() }

// Build returns the complete PersistentVolume, bound to the claim by uid. A
// reply without capacity means the capacity that was asked for (CSI spec,
// Volume.capacity_bytes).
func Build(in Input) *v1.PersistentVolume {
	vol := in.Response.GetVolume()
	bytes := vol.GetCapacityBytes()
	if bytes == 0 {
		bytes = in.Request.GetCapacityRange().GetRequiredBytes()
	}
	pv := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        in.Request.GetName(),
			Finalizers:  []string{wellknown.PVFinalizer},
			Annotations: map[string]string{wellknown.ProvisionedBy: in.Class.Provisioner},
		},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:      in.Claim.Spec.AccessModes,
			MountOptions:     in.Class.MountOptions,
			Capacity:         v1.ResourceList{v1.ResourceStorage: *resource.NewQuantity(bytes, resource.BinarySI)},
			StorageClassName: in.Class.Name,
			VolumeMode:       in.Claim.Spec.VolumeMode,

			PersistentVolumeReclaimPolicy: in.ReclaimPolicy,
			ClaimRef: &v1.ObjectReference{
				Kind:            "PersistentVolumeClaim",
				APIVersion:      "v1",
				Namespace:       in.Claim.Namespace,
				Name:            in.Claim.Name,
				UID:             in.Claim.UID,
				ResourceVersion: in.Claim.ResourceVersion,
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{
				Driver:           in.Driver,
				VolumeHandle:     vol.GetVolumeId(),
				FSType:           fsType(in.Request),
				ReadOnly:         in.PublishReadOnly && readOnly(in.Request),
				VolumeAttributes: attributes(in.Identity, vol),

				ControllerPublishSecretRef: reference(in.Secrets.ControllerPublish),
				NodeStageSecretRef:         reference(in.Secrets.NodeStage),
				NodePublishSecretRef:       reference(in.Secrets.NodePublish),
				ControllerExpandSecretRef:  reference(in.Secrets.ControllerExpand),
				NodeExpandSecretRef:        reference(in.Secrets.NodeExpand),
			}},
		},
	}
	if in.Topology {
		pv.Spec.NodeAffinity = topology.Affinity(vol.GetAccessibleTopology())
	}
	secret.Annotate(pv.Annotations, in.Secrets)
	if in.AttributesClass != "" {
		pv.Spec.VolumeAttributesClassName = &in.AttributesClass
	}
	return pv
}

// ReclaimPolicy returns the reclaim policy of a claim's volume: Retain or Delete, whichever
// is stricter of what is known. class is the claim's StorageClass of today, nil if it is
// gone. remembered is the policy with which this process has called the driver, recorded
// the one on the claim; either may be "". Users can write to claims, so recorded can only
// make the policy stricter. Without a class and without a memory the policy is Retain.
//
// Rule: docs/reliability.md, "The reclaim policy".
func ReclaimPolicy(recorded, remembered v1.PersistentVolumeReclaimPolicy, class *storagev1.StorageClass) v1.PersistentVolumeReclaimPolicy {
	const retain, remove = v1.PersistentVolumeReclaimRetain, v1.PersistentVolumeReclaimDelete
	today := remembered
	if class != nil {
		today = retain // the API server's default for a PV
		if class.ReclaimPolicy != nil {
			today = *class.ReclaimPolicy
		}
	}
	if today != remove || recorded == retain || remembered == retain {
		return retain
	}
	return remove
}

func reference(ref secret.Ref) *v1.SecretReference {
	if ref.IsZero() {
		return nil
	}
	return &v1.SecretReference{Namespace: ref.Namespace, Name: ref.Name}
}

func attributes(identity string, vol *csi.Volume) map[string]string {
	a := map[string]string{wellknown.ProvisionerIdentity: identity}
	maps.Copy(a, vol.GetVolumeContext())
	return a
}

// fsType is empty for block volumes.
func fsType(req *csi.CreateVolumeRequest) string {
	return req.GetVolumeCapabilities()[0].GetMount().GetFsType()
}

func readOnly(req *csi.CreateVolumeRequest) bool {
	list := req.GetVolumeCapabilities()
	return len(list) == 1 && list[0].GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
}

// Owns says whether the PV owns the claim's volume: made by us, for this claim
// and no other. Whatever becomes of the claim, the volume then goes the way of
// the PV.
func Owns(pv *v1.PersistentVolume, claim *v1.PersistentVolumeClaim, driver string) bool {
	return pv != nil &&
		pv.Spec.CSI != nil && pv.Spec.CSI.Driver == driver &&
		pv.Annotations[wellknown.ProvisionedBy] != "" &&
		pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.UID == claim.UID
}

// SavedFor says whether the PV owns the claim's volume and is here to stay.
func SavedFor(pv *v1.PersistentVolume, claim *v1.PersistentVolumeClaim, driver string) bool {
	return Owns(pv, claim, driver) && pv.DeletionTimestamp == nil
}
