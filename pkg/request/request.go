package request

import (
	"maps"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/accessmodes"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Input is everything that a request is made from.
type Input struct {
	// Claim that asks for the volume.
	Claim *v1.PersistentVolumeClaim
	// Class of the claim.
	Class *storagev1.StorageClass
	// Source to copy; nil for a blank volume.
	Source *source.Volume
	// Attributes is the claim's VolumeAttributesClass; nil for none.
	Attributes *storagev1.VolumeAttributesClass
	// Name of the volume.
	Name string
	// PinnedBytes is the required capacity that an earlier attempt put on
	// record; 0 lets RequiredBytes decide.
	PinnedBytes int64
	// Accessibility is from where the volume must be reachable; nil for no requirement.
	Accessibility *csi.TopologyRequirement
	// DefaultFSType is used when the class names none. May be empty.
	DefaultFSType string
	// ExtraMetadata adds the names of claim and PV to the parameters.
	ExtraMetadata bool
	// SingleNodeMultiWriter: the driver tells ReadWriteOnce from
	// ReadWriteOncePod (CSI spec, SINGLE_NODE_MULTI_WRITER).
	SingleNodeMultiWriter bool
}

// Build returns the request, or the verdict Refuse that says what is wrong with
// claim or class.
func Build(in Input) (*csi.CreateVolumeRequest, verdict.Verdict) {
	bytes, v := RequiredBytes(in.Claim, in.Source)
	if !v.Ready() {
		return nil, v
	}
	bytes = pinned(in, bytes)
	parameters, fsType, v := Parameters(in.Class)
	if !v.Ready() {
		return nil, v
	}
	if fsType == "" {
		fsType = in.DefaultFSType
	}
	capabilities, v := capabilities(in, fsType)
	if !v.Ready() {
		return nil, v
	}
	if in.ExtraMetadata {
		parameters[wellknown.ParameterClaimName] = in.Claim.Name
		parameters[wellknown.ParameterClaimNamespace] = in.Claim.Namespace
		parameters[wellknown.ParameterPVName] = in.Name
	}
	var mutable map[string]string
	if in.Attributes != nil {
		mutable = clone(in.Attributes.Parameters)
	}
	return &csi.CreateVolumeRequest{
		Name:                in.Name,
		CapacityRange:       &csi.CapacityRange{RequiredBytes: bytes},
		VolumeCapabilities:  capabilities,
		Parameters:          parameters,
		VolumeContentSource: contentSource(in.Source),
		MutableParameters:   mutable,

		AccessibilityRequirements: in.Accessibility,
	}, verdict.Verdict{}
}

// pinned returns the bytes on record as far as they can be ours: never more than
// the claim and its source account for today, because neither shrinks, and users
// can write to the record. Only when the source cannot be asked any more they
// stand as they are; the result is then only deleted.
func pinned(in Input, bytes int64) int64 {
	switch {
	case in.PinnedBytes <= 0:
		return bytes
	case in.Source == nil && source.Of(in.Claim).Kind != source.None:
		return in.PinnedBytes
	}
	return min(bytes, in.PinnedBytes)
}

// RequiredBytes returns how many bytes CreateVolume must be asked for: the
// claim's request, fractions rounded up, or the source volume's real capacity,
// whichever is larger. A nil source means a blank volume. The verdict is Refuse
// when the request is absent, not positive, or more than 63 bits can say.
//
// Rule: volume cloning, size; CSI spec, CreateVolume, capacity_range.
func RequiredBytes(claim *v1.PersistentVolumeClaim, src *source.Volume) (int64, verdict.Verdict) {
	asked, found := claim.Spec.Resources.Requests[v1.ResourceStorage]
	if !found {
		return 0, verdict.Refused(verdict.InvalidSize,
			"the claim asks for no size; create it again with spec.resources.requests.storage")
	}
	bytes, fits := source.Bytes(asked)
	if !fits || bytes == 0 {
		return 0, verdict.Refused(verdict.InvalidSize,
			"the claim asks for %s, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei", source.Written(asked))
	}
	if src != nil {
		bytes = max(bytes, src.Bytes)
	}
	return bytes, verdict.Verdict{}
}

func contentSource(src *source.Volume) *csi.VolumeContentSource {
	if src == nil {
		return nil
	}
	if src.Snapshot {
		return &csi.VolumeContentSource{
			Type: &csi.VolumeContentSource_Snapshot{
				Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: src.Handle},
			},
		}
	}
	return &csi.VolumeContentSource{
		Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: src.Handle},
		},
	}
}

// capabilities returns one capability for each access mode of the claim, in
// the claim's order.
func capabilities(in Input, fsType string) ([]*csi.VolumeCapability, verdict.Verdict) {
	if len(in.Claim.Spec.AccessModes) == 0 {
		return nil, verdict.Refused(verdict.InvalidAccessMode,
			"the claim names no access mode; create it again with spec.accessModes")
	}
	block := in.Claim.Spec.VolumeMode != nil && *in.Claim.Spec.VolumeMode == v1.PersistentVolumeBlock
	var list []*csi.VolumeCapability
	for _, mode := range in.Claim.Spec.AccessModes {
		translated, err := accessmodes.ToCSIAccessMode([]v1.PersistentVolumeAccessMode{mode}, in.SingleNodeMultiWriter)
		if err != nil {
			return nil, verdict.Refused(verdict.InvalidAccessMode,
				"access mode %q has no counterpart in CSI; create the claim again with another one", mode)
		}
		c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: translated}}
		if block {
			c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		} else {
			c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{
				FsType:     fsType,
				MountFlags: in.Class.MountOptions,
			}}
		}
		list = append(list, c)
	}
	return list, verdict.Verdict{}
}

// clone copies a map and never returns nil.
func clone(m map[string]string) map[string]string {
	c := make(map[string]string, len(m))
	maps.Copy(c, m)
	return c
}
