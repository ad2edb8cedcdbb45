package secret

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Annotate writes onto a new PV which Secret its deletion needs, empty for none, and
// which one its modification, if there is one.
func Annotate(annotations map[string]string, refs Refs) {
	annotations[wellknown.DeletionSecretName] = refs.Provisioner.Name
	annotations[wellknown.DeletionSecretNamespace] = refs.Provisioner.Namespace
	if !refs.ControllerModify.IsZero() {
		annotations[wellknown.ModifySecretName] = refs.ControllerModify.Name
		annotations[wellknown.ModifySecretNamespace] = refs.ControllerModify.Namespace
	}
}

// OnPV returns the Secret that the PV says its deletion needs. told is false if the PV
// says nothing about it, and its class is to be asked. Where just one of the two
// annotations has a value there is no Secret.
func OnPV(pv *v1.PersistentVolume) (ref Ref, told bool) {
	n, named := pv.Annotations[wellknown.DeletionSecretName]
	ns, placed := pv.Annotations[wellknown.DeletionSecretNamespace]
	if !named || !placed {
		return Ref{}, false
	}
	if n == "" || ns == "" {
		return Ref{}, true
	}
	return Ref{Namespace: ns, Name: n}, true
}

// ClassOf returns the name of the PV's class, "" if it has none.
func ClassOf(pv *v1.PersistentVolume) string {
	if class, found := pv.Annotations[wellknown.BetaStorageClass]; found {
		return class
	}
	return pv.Spec.StorageClassName
}

// OfClass returns the Secret that the class names for the deletion of a PV that says
// nothing about it itself. claim is that of the PV, nil if it is gone: then a class
// that names Secrets by annotations of claims cannot tell, and the verdict, Refuse,
// says what to do. Without class or claimRef there is no Secret.
func OfClass(pv *v1.PersistentVolume, class *storagev1.StorageClass, claim *v1.PersistentVolumeClaim) (Ref, verdict.Verdict) {
	if class == nil || pv.Spec.ClaimRef == nil {
		return Ref{}, verdict.Verdict{}
	}
	about := About{PV: pv.Name, Claim: pv.Spec.ClaimRef.Name, Namespace: pv.Spec.ClaimRef.Namespace}
	if claim != nil && claim.UID == pv.Spec.ClaimRef.UID {
		about.Annotations = claim.Annotations
	}
	ref, v := ResolveProvisioner(class, about)
	if v.Ready() {
		return ref, v
	}
	v.Message = fmt.Sprintf(
		"PV %q does not say which Secret its deletion needs, and its class does not tell: %s. Put the annotations %s and %s on the PV, both empty if it needs none; it is tried again then",
		pv.Name, v.Message, wellknown.DeletionSecretName, wellknown.DeletionSecretNamespace)
	return Ref{}, v
}
