package request

import (
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// Attributes is what is known of the VolumeAttributesClass that a claim names.
type Attributes struct {
	// Name in the claim, not empty.
	Name string
	// Class of that name; nil if there is none.
	Class *storagev1.VolumeAttributesClass
	// Driver is the name of our driver, Modifies whether it reports MODIFY_VOLUME.
	Driver   string
	Modifies bool
	// Heeded: the feature gate VolumeAttributesClass.
	Heeded bool
}

// JudgeAttributes says whether a volume can be made with the VolumeAttributesClass.
//
// Rule: CSI spec, CreateVolume, mutable_parameters; Kubernetes, VolumeAttributesClass.
func JudgeAttributes(a Attributes) verdict.Verdict {
	switch {
	case !a.Heeded:
		// To ignore it does not help: Kubernetes binds no PV without it to this claim.
		return verdict.Refused(verdict.AttributesDisabled,
			"the claim asks for VolumeAttributesClass %q, but the feature gate VolumeAttributesClass is switched off here, or the API server has no such classes in storage.k8s.io/v1; create the claim again without spec.volumeAttributesClassName", a.Name)
	case !a.Modifies:
		return verdict.Refused(verdict.DriverLacks,
			"the claim asks for VolumeAttributesClass %q, but driver %q has no such classes (no MODIFY_VOLUME capability); create the claim again without spec.volumeAttributesClassName", a.Name, a.Driver)
	case a.Class == nil:
		return verdict.Waiting(verdict.AttributesNotFound,
			"the claim waits for VolumeAttributesClass %q, which does not exist; provisioning starts by itself when it is there", a.Name)
	case a.Class.DriverName != a.Driver:
		return verdict.Refused(verdict.AttributesOfAnother,
			"VolumeAttributesClass %q belongs to driver %q, the claim was given to driver %q; create the claim again with another spec.volumeAttributesClassName, or without", a.Name, a.Class.DriverName, a.Driver)
	}
	return verdict.Verdict{}
}
